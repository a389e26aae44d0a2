"""From readings that were judged by rules to alarms: what each reading says of each cause, for the fold.

Whether a rule is true, held or clear at a reading is computed for all readings at once; `assets.alarms.episodes` takes
it from there. docs/adr/0039 defines the words.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assets.alarms.episodes import ANY, Action, Episodes, Judged, Place, Readings, Refusal, Step, microseconds
from assets.alarms.tables import RANKS, SILENCE, AlarmRows
from assets.stream.alerting import Judgement
from assets.stream.contract import Contract, Rule
from assets.stream.limits import Limits
from assets.stream.log import HubPartition, Offsets, is_beyond

_EVENT = 1 << 32


class Folded(NamedTuple):
    """What folding decided: rows of the table of alarms.

    Attributes:
        rows: of the table, with their steps in `fold`.
        fold: the number of the last step; what was decided before has lower ones.
        snapshot: the last step whose rows have all open alarms; None if none has.
        silent: for partitions the last deadline of a silence that passed, in microseconds.
        actions, actions_before: how far actions are applied, and were before, by partition of their hub.
    """

    rows: pl.DataFrame
    fold: int
    snapshot: int | None = None
    silent: Mapping[HubPartition, int] = MappingProxyType({})
    actions: Mapping[HubPartition, int] = MappingProxyType({})
    actions_before: Mapping[HubPartition, int] = MappingProxyType({})

    @classmethod
    def of(cls, steps: Sequence[Step], fold: int) -> "Folded":
        """The steps together."""
        silent: dict[tuple[int, int], int] = {}
        for step in steps:
            silent |= step.silent
        rows = [step.rows for step in steps if step.rows.height]
        snapshots = [step.fold for step in steps if step.is_snapshot]
        return cls(
            pl.concat(rows) if rows else NO_ROWS,
            max([fold, *(step.fold for step in steps)]),
            snapshots[-1] if snapshots else None,
            {HubPartition(*place): deadline for place, deadline in silent.items()},
        )

    @property
    def is_empty(self) -> bool:
        """Whether nothing was decided."""
        return self.rows.is_empty() and self.snapshot is None and not self.actions

    def after(self, fold: int) -> "Folded":
        """Without the steps up to one that is stored."""
        return self if self.rows.is_empty() else self._replace(rows=self.rows.filter(pl.col("fold") > fold))


NO_ROWS = pl.DataFrame(schema={name: column.dtype for name, column in AlarmRows.columns().items()})


def measurements(contract: Contract) -> list[str]:
    """The measurements by which it is known, each for itself, what the newest reading of an entity is."""
    return sorted(name for name in contract.plausible if name in contract.tables.silver.schema)


class Alarming:
    """Folds the readings of one stream into alarms.

    Args:
        contract: the stream, which has alarms.
        episodes: the alarms that are open.
        folded: up to where readings were folded already, while events are processed again.
    """

    def __init__(self, contract: Contract, episodes: Episodes, folded: Offsets | None = None) -> None:
        if contract.alarms is None:
            raise ValueError(f"{contract.stream} has no alarms.")
        self._contract, self._alarms, self.episodes = contract, contract.alarms, episodes
        self._sources = {window.name: window.column for window in contract.windows}
        self._measured = {*measurements(contract)}
        self.folded = folded

    def _source(self, column: str) -> str:
        return self._sources.get(column, column)

    def _looked_at(self, rules: Sequence[Rule]) -> tuple[str, ...]:
        """The measurements that rules look at; `ANY` where a score is among them, which may look at all."""
        sources = {self._source(rule.column) for rule in rules}
        return tuple(sorted(sources)) if sources <= self._measured else (ANY,)

    def fold(
        self, events: pl.DataFrame, accepted: Judgement, revised: Judgement | None, refused: pl.DataFrame
    ) -> Folded:
        """Folds what was pulled together, or several such micro-batches.

        Args:
            events: with their positions and `pulled_at`, in the order of processing.
            accepted: readings that stand.
            revised: readings that contradict one that stands, and what of it is urgent.
            refused: readings that `clean` refused, with the entity, in the order of processing.
        """
        pulls = events["pulled_at"].unique(maintain_order=True).to_list() if events.height else []
        steps = []
        for pulled_at in pulls:
            is_whole = len(pulls) == 1
            is_of = pl.col("pulled_at") == pulled_at
            parts = [
                each if each is None or is_whole else each.filter(each.rows["pulled_at"] == pulled_at)
                for each in (accepted, revised)
            ]
            of_pull = (events, refused) if is_whole else (events.filter(is_of), refused.filter(is_of))
            steps.append(self._step(*of_pull, parts[0], parts[1]))
        return Folded.of(steps, self.episodes.fold)

    def tick(self, now: int, busy: Set[tuple[int, int]] = frozenset()) -> Folded:
        """Passes deadlines up to an instant, in microseconds; nothing that was received before it may come later.

        Args:
            now: the instant.
            busy: hub epochs and partitions in which something may.
        """
        return Folded.of([self.episodes.tick(now, busy)], self.episodes.fold)

    def act(
        self,
        actions: Sequence[Action],
        now: int,
        reached: Mapping[HubPartition, int],
        before: Mapping[HubPartition, int],
    ) -> Folded:
        """Folds what people did; `before` and `reached` say how far their hub was read before and with it."""
        step = self.episodes.act(actions, now)
        return Folded.of([step], self.episodes.fold)._replace(actions=reached, actions_before=before)

    def _step(
        self, events: pl.DataFrame, refused: pl.DataFrame, accepted: Judgement | None, revised: Judgement | None
    ) -> Step:
        now = int(events["pulled_at"].to_physical()[0])
        if self.folded is not None:
            # What was folded before a crash has passed its deadlines.
            events = events.filter(is_beyond(self.folded))
        refusals = [*self._refusals(refused)]
        return self.episodes.step(self._readings(accepted, revised), refusals, _newest(events), now)

    def _readings(self, accepted: Judgement | None, revised: Judgement | None) -> Readings | None:
        parts = [
            self._part(each, is_accepted=each is accepted)
            for each in (accepted, revised)
            if each is not None and each.rows.height
        ]
        return None if not parts else parts[0] if len(parts) == 1 else _joined(parts)

    def _part(self, judgement: Judgement, *, is_accepted: bool) -> Readings:
        rows, limits = judgement.rows, judgement.told.limits
        measured_at, received_at = (rows[name].to_physical().to_numpy() for name in ("measured_at", "received_at"))
        ages = received_at - measured_at
        numbers = judgement.told.numbers
        if judgement.broken.shape[1]:
            max_ages = limits.max_ages
            is_fresh = ages <= (max_ages[0] if (max_ages == max_ages[0]).all() else max_ages[numbers].max(axis=1))
        else:
            is_fresh = ages <= microseconds(self._alarms.max_age)
        epoch = rows["hub_epoch"].fill_null(0).to_numpy()
        is_new = np.ones(rows.height, bool)
        if self.folded is not None:
            is_new = rows.select(is_beyond(self.folded)).to_series().to_numpy()
        return Readings(
            entity=rows[self._contract.entity].to_numpy(),
            measured_at=measured_at,
            received_at=received_at,
            order=_order(rows),
            hub_epoch=epoch,
            partition=rows["partition"].to_numpy(),
            sequence_number=rows["sequence_number"].to_numpy(),
            event_index=rows["event_index"].to_numpy(),
            is_fresh=is_fresh,
            is_accepted=np.full(rows.height, is_accepted),
            is_new=is_new,
            # A revision says nothing of its other measurements.
            has_value=self._has_value(rows, is_fresh & is_accepted),
            causes=[*self._judged(judgement, ages, is_accepted=is_accepted)],
            versions=limits.versions,
            silences=limits.silences,
            silence=limits.silence_of(numbers),
        )

    def _has_value(self, rows: pl.DataFrame, is_fresh: NDArray[np.bool_]) -> dict[str, NDArray[np.bool_]]:
        """For each measurement which readings are fresh and have one; `ANY` is of all fresh ones."""
        found = {ANY: is_fresh}
        for name in sorted(self._measured):
            values = rows[name]
            found[name] = is_fresh & values.is_not_null().to_numpy() if values.has_nulls() else is_fresh
        return found

    def _judged(self, judgement: Judgement, ages: NDArray[np.int64], *, is_accepted: bool) -> Iterator[Judged]:
        concerned = self.episodes.causes
        for cause, members in _by_cause(judgement.told.rules).items():
            if cause == SILENCE:
                continue
            # Most causes are about nobody.
            if cause in concerned or judgement.broken[:, members].any():
                judged = _judged_of(self._contract, judgement, ages, cause, members, is_accepted=is_accepted)
                looked_at = self._looked_at([judgement.told.rules[member] for member in members])
                yield judged._replace(looked_at=looked_at)

    def _refusals(self, refused: pl.DataFrame) -> Iterator[Refusal]:
        # Where code of the domain failed on a reading, nobody knows whose it is.
        refused = refused.drop_nulls(self._contract.entity)
        if self.folded is not None:
            refused = refused.filter(is_beyond(self.folded))
        if refused.is_empty():
            return
        names = [self._contract.entity, "received_at", "hub_epoch", "partition", "sequence_number", "event_index"]
        columns = refused[names].with_columns(
            pl.col("hub_epoch").fill_null(0), pl.col("received_at").to_physical(), order=pl.Series(_order(refused))
        )
        for entity, received_at, *place, order in columns.iter_rows():
            yield Refusal(entity, received_at, order, Place(*place))


def _judged_of(
    contract: Contract,
    judgement: Judgement,
    ages: NDArray[np.int64],
    cause: str,
    members: Sequence[int],
    *,
    is_accepted: bool,
) -> Judged:
    rows, limits = judgement.rows, judgement.told.limits
    count = rows.height
    true, held = np.zeros(count, np.int8), np.zeros(count, np.int8)
    best = np.full(count, -1, np.int16)
    value, version = np.full(count, np.nan), np.zeros(count, np.int64)
    for member in members:
        rule, numbers = judgement.told.rules[member], judgement.told.numbers[:, member]
        values = rows[rule.column].cast(pl.Float64).fill_null(np.nan).to_numpy()
        is_evaluated = ~np.isnan(values) & (ages <= limits.max_ages[numbers])
        is_true = judgement.broken[:, member] & is_evaluated
        if is_accepted:
            is_forecast = contract.present_of(rule.column) is not None
            is_held = _is_held(judgement, limits, member, values, is_forecast=is_forecast) & is_evaluated & ~is_true
        else:
            # Of a revision only what is urgent counts; it clears nothing.
            is_true &= limits.ranks[numbers] == RANKS["urgent"]
            is_evaluated, is_held = is_true, np.zeros(count, bool)
        ranks = limits.ranks[numbers]
        np.maximum(true, np.where(is_true, ranks, np.int8(0)), out=true)
        np.maximum(held, np.where(is_true | is_held, ranks, np.int8(0)), out=held)
        # Of equals the first rule leads.
        weight = np.where(is_evaluated, 1 + ranks * (200 * is_true + 10 * is_held).astype(np.int16), np.int16(-1))
        leads = weight > best
        best = np.where(leads, weight, best)
        value, version = np.where(leads, values, value), np.where(leads, numbers, version)
    is_downward = judgement.told.rules[members[0]].is_downward
    return Judged(cause, is_downward, true, held, best >= 0, value, version, (ANY,))


def _is_held(
    judgement: Judgement, limits: Limits, member: int, values: NDArray[np.float64], *, is_forecast: bool
) -> NDArray[np.bool_]:
    """Whether a value that does not make a rule true is not beyond the threshold where it is clear either."""
    rule, numbers = judgement.told.rules[member], judgement.told.numbers[:, member]
    clear = limits.clear_thresholds[numbers]
    is_held = (values < clear) if rule.is_downward else (values > clear)
    if rule.unless is not None or is_forecast:
        # It is beyond, and yet the rule is not broken.
        is_held |= rule.compares(pl.Series(values), pl.Series(limits.thresholds[numbers])).to_numpy()
    is_enabled: NDArray[np.bool_] = judgement.told.is_enabled[numbers]
    return is_held & is_enabled


def _by_cause(rules: Sequence[Rule]) -> Mapping[str, list[int]]:
    found: dict[str, list[int]] = {}
    for number, rule in enumerate(rules):
        found.setdefault(rule.about, []).append(number)
    return found


def _order(rows: pl.DataFrame) -> NDArray[np.int64]:
    """The order of processing: by event, then by place in it."""
    order: NDArray[np.int64] = rows["event"].cast(pl.Int64).to_numpy() * _EVENT + rows["event_index"].to_numpy()
    return order


def _newest(events: pl.DataFrame) -> dict[tuple[int, int], int]:
    by_partition = events.group_by(pl.col("hub_epoch").fill_null(0), "partition").agg(pl.col("received_at").max())
    return {
        (epoch, partition): received_at
        for epoch, partition, received_at in by_partition.with_columns(pl.col("received_at").to_physical()).iter_rows()
    }


def _joined(parts: Sequence[Readings]) -> Readings:
    """Readings and revisions together; what one of them says nothing of is not evaluated there."""
    names = [name for name in Readings._fields if name not in ("causes", "versions", "silences", "has_value")]
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    order = np.argsort(arrays["order"], kind="stable")
    arrays = {name: values[order] for name, values in arrays.items()}
    counts = [len(part.entity) for part in parts]
    causes: dict[str, list[Judged | None]] = {}
    for at, part in enumerate(parts):
        for judged in part.causes:
            causes.setdefault(judged.cause, [None] * len(parts))[at] = judged
    return Readings(
        **arrays,
        causes=[_joined_cause(cause, found, counts, order) for cause, found in causes.items()],
        versions=parts[0].versions,
        silences=parts[0].silences,
        has_value={
            name: np.concatenate([part.has_value[name] for part in parts])[order] for name in parts[0].has_value
        },
    )


def _joined_cause(cause: str, found: Sequence[Judged | None], counts: Sequence[int], order: NDArray[np.intp]) -> Judged:
    known = next(each for each in found if each is not None)
    parts = [_nothing(known, count) if each is None else each for each, count in zip(found, counts, strict=True)]
    return Judged(
        cause,
        known.is_downward,
        np.concatenate([each.true for each in parts])[order],
        np.concatenate([each.held for each in parts])[order],
        np.concatenate([each.is_evaluated for each in parts])[order],
        np.concatenate([each.value for each in parts])[order],
        np.concatenate([each.version for each in parts])[order],
        known.looked_at,
    )


def _nothing(known: Judged, count: int) -> Judged:
    """Readings that say nothing of a cause."""
    ranks = np.zeros(count, np.int8)
    is_evaluated = np.zeros(count, bool)
    return known._replace(
        true=ranks,
        held=ranks,
        is_evaluated=is_evaluated,
        value=np.full(count, np.nan),
        version=np.zeros(count, np.int64),
    )
