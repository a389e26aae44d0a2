"""From readings that were judged by rules to alarms: what each reading says of each cause, for the fold.

Whether a rule is true, held or clear at a reading is computed for all readings at once; `assets.alarms.episodes` takes
it from there. docs/adr/0039 defines the words.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assets.alarms.episodes import Episodes, Step, Update, updated
from assets.alarms.given import ANY, Action, Judged, Place, Readings, Refusal, coded, microseconds
from assets.alarms.tables import RANKS, SILENCE, AlarmRows
from assets.stream.alerting import Judgement
from assets.stream.contract import Contract, Rule
from assets.stream.log import HubPartition, Offsets, is_beyond
from assets.stream.rulebook import Told

_EVENT = 1 << 32


class Folded(NamedTuple):
    """What folding decided: rows of the table of alarms.

    Attributes:
        rows: of the table, with their steps in `fold`.
        updates: what open alarms have come to; `stored` makes rows of them, once for all that is committed together.
        fold: the number of the last step; what was decided before has lower ones.
        snapshot: the last step whose rows have all open alarms; None if none has.
        silent: for partitions the last deadline of a silence that passed, in microseconds.
        actions, actions_before: how far actions are applied, and were before, by partition of their hub.
    """

    rows: pl.DataFrame
    updates: Sequence[Update]
    fold: int
    snapshot: int | None = None
    silent: Mapping[HubPartition, int] = MappingProxyType({})
    actions: Mapping[HubPartition, int] = MappingProxyType({})
    actions_before: Mapping[HubPartition, int] = MappingProxyType({})

    @classmethod
    def of(cls, steps: Sequence[Step], fold: int) -> "Folded":
        """The steps together."""
        rows = [step.rows for step in steps if step.rows.height] or [NO_ROWS]
        snapshots = [step.fold for step in steps if step.is_snapshot]
        return cls(
            rows[0] if len(rows) == 1 else pl.concat(rows),
            [update for step in steps for update in step.updates],
            max([fold, *(step.fold for step in steps)]),
            snapshots[-1] if snapshots else None,
            furthest({HubPartition(*place): at for place, at in step.silent.items()} for step in steps),
        )

    @property
    def is_empty(self) -> bool:
        """Whether nothing was decided."""
        return self.rows.is_empty() and not self.updates and self.snapshot is None and not self.actions

    def after(self, fold: int) -> "Folded":
        """Without the steps up to one that is stored."""
        rows = self.rows if self.rows.is_empty() else self.rows.filter(pl.col("fold") > fold)
        return self._replace(rows=rows, updates=[update for update in self.updates if update.fold > fold])


def furthest(reached: Iterable[Mapping[HubPartition, int]]) -> dict[HubPartition, int]:
    """How far each partition came: a later step may pass an earlier deadline of it."""
    found: dict[HubPartition, int] = {}
    for each in reached:
        found |= {at: max(last, found.get(at, last)) for at, last in each.items()}
    return found


def stored(folded: Sequence[Folded], stream: str) -> pl.DataFrame:
    """The rows of what is committed together. What an alarm has come to is said unless a later row says it."""
    rows = pl.concat([each.rows for each in folded]) if folded else NO_ROWS
    of_steps = [update for each in folded for update in each.updates]
    updates = updated(of_steps, stream)
    # Rows stand in the order of their steps.
    if rows.is_empty() or all(update.fold >= rows["fold"][-1] for update in of_steps):
        return pl.concat([rows, updates])
    last = rows.group_by("alarm_id").agg(later=pl.col("fold").max())
    is_last = pl.col("later").is_null() | (pl.col("later") <= pl.col("fold"))
    return pl.concat([rows, updates.join(last, on="alarm_id", how="left").filter(is_last)[rows.columns]])


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
        if not events.height:
            return Folded.of([], self.episodes.fold)
        if events["pulled_at"][0] == events["pulled_at"][-1]:
            return Folded.of([self._step(events, refused, accepted, revised)], self.episodes.fold)
        steps = []
        for pulled_at in events["pulled_at"].unique(maintain_order=True):
            is_of = pl.col("pulled_at") == pulled_at
            parts = [
                None if each is None else each.filter(each.rows["pulled_at"] == pulled_at)
                for each in (accepted, revised)
            ]
            steps.append(self._step(events.filter(is_of), refused.filter(is_of), parts[0], parts[1]))
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
        now = int(_numbers(events["pulled_at"])[0])
        if self.folded is not None:
            # What was folded before a crash has passed its deadlines.
            events = events.filter(is_beyond(self.folded))
        refusals = [*self._refusals(refused)]
        return self.episodes.step(self._readings(accepted, revised), refusals, _newest(events), now)

    def _readings(self, accepted: Judgement | None, revised: Judgement | None) -> Readings | None:
        parts: list[Readings] = []
        raised: dict[str, NDArray[np.int64]] = {}
        if revised is not None and revised.rows.height:
            revisions = self._part(revised, {}, is_accepted=False)
            parts.append(revisions)
            # What is accepted after a revision counts for the alarm that the revision raises.
            raised = {each.cause: revisions.entities[revisions.code[each.is_evaluated]] for each in revisions.causes}
        if accepted is not None and accepted.rows.height:
            parts.append(self._part(accepted, raised, is_accepted=True))
        return None if not parts else parts[0] if len(parts) == 1 else _joined(parts)

    def _part(self, judgement: Judgement, raised: Mapping[str, NDArray[np.int64]], *, is_accepted: bool) -> Readings:
        rows, limits = judgement.rows, judgement.told.limits
        measured_at, received_at = (_numbers(rows[name]) for name in ("measured_at", "received_at"))
        ages = received_at - measured_at
        numbers = judgement.told.numbers
        if not judgement.broken.shape[1]:
            is_fresh = ages <= microseconds(self._alarms.max_age)
        elif limits.max_age is not None:
            is_fresh = ages <= limits.max_age
        else:
            is_fresh = ages <= limits.max_ages[numbers].max(axis=1)
        entities, code = coded(_numbers(rows[self._contract.entity]))
        is_new = np.ones(rows.height, bool)
        if self.folded is not None:
            is_new = rows.select(is_beyond(self.folded)).to_series().to_numpy()
        return Readings(
            entities=entities,
            code=code,
            measured_at=measured_at,
            received_at=received_at,
            order=_order(rows),
            **{name: _numbers(rows[name]) for name in Place._fields},
            is_fresh=is_fresh,
            is_accepted=np.full(rows.height, is_accepted),
            is_new=is_new,
            # A revision says nothing of its other measurements.
            has_value=self._has_value(rows, is_fresh & is_accepted),
            causes=[*self._judged(judgement, ages, entities, code, raised, is_accepted=is_accepted)],
            versions=limits.versions,
            silences=limits.silences,
            silent_after=limits.silent_after,
            silence=limits.silence_of(numbers),
        )

    def _has_value(self, rows: pl.DataFrame, is_fresh: NDArray[np.bool_]) -> dict[str, NDArray[np.bool_]]:
        """For each measurement which readings are fresh and have one; `ANY` is of all fresh ones."""
        found = {ANY: is_fresh}
        for name in sorted(self._measured):
            values = rows[name]
            found[name] = is_fresh & values.is_not_null().to_numpy() if values.has_nulls() else is_fresh
        return found

    def _judged(
        self,
        judgement: Judgement,
        ages: NDArray[np.int64],
        entities: NDArray[np.int64],
        code: NDArray[np.intp],
        raised: Mapping[str, NDArray[np.int64]],
        *,
        is_accepted: bool,
    ) -> Iterator[Judged]:
        for cause, members in _by_cause(judgement.told.rules).items():
            if cause == SILENCE:
                continue
            # Most readings raise no alarm, and are of entities that have none.
            is_concerned = self.episodes.is_open(cause, entities)
            is_concerned[code[judgement.broken[:, members].any(axis=1)]] = True
            if cause in raised:
                is_concerned |= np.isin(entities, raised[cause])
            which = np.flatnonzero(is_concerned[code])
            if len(which):
                looked_at = self._looked_at([judgement.told.rules[member] for member in members])
                judged = _judged_of(self._contract, judgement, ages, cause, members, which, is_accepted=is_accepted)
                yield judged._replace(looked_at=looked_at)

    def _refusals(self, refused: pl.DataFrame) -> Iterator[Refusal]:
        if refused.is_empty():
            return
        # Where code of the domain failed on a reading, nobody knows whose it is.
        refused = refused.drop_nulls(self._contract.entity)
        if self.folded is not None:
            refused = refused.filter(is_beyond(self.folded))
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
    which: NDArray[np.intp],
    *,
    is_accepted: bool,
) -> Judged:
    """What some readings say of a cause, and nothing of the others."""
    rows, told, limits = judgement.rows, judgement.told, judgement.told.limits
    count = len(which)
    # Often there is no other.
    some = slice(None) if count == rows.height else which
    ages = ages[some]
    true, held = np.zeros(count, np.int8), np.zeros(count, np.int8)
    best = np.full(count, -1, np.int16)
    value, version = np.full(count, np.nan), np.zeros(count, np.int64)
    for member in members:
        rule, numbers = told.rules[member], told.numbers[some, member]
        # Where there is none it is NaN.
        values = rows[rule.column].cast(pl.Float64).to_numpy()[some]
        is_evaluated = ~np.isnan(values) & limits.is_young(ages, numbers)
        is_true = judgement.broken[some, member] & is_evaluated
        ranks = limits.ranks[numbers]
        if is_accepted:
            is_forecast = contract.present_of(rule.column) is not None
            is_held = _is_held(told, rule, numbers, values, is_forecast=is_forecast) & is_evaluated & ~is_true
        else:
            # Of a revision only what is urgent counts; it clears nothing.
            is_true &= ranks == RANKS["urgent"]
            is_evaluated, is_held = is_true, np.zeros(count, bool)
        np.maximum(true, ranks * is_true, out=true)
        np.maximum(held, ranks * (is_true | is_held), out=held)
        # Of equals the first rule leads.
        weight = np.where(is_evaluated, ranks * np.where(is_true, np.int16(20), is_held) + np.int16(1), np.int16(-1))
        leads = weight > best
        for all_, each in ((best, weight), (value, values), (version, numbers)):
            np.copyto(all_, each, where=leads)
    is_downward = told.rules[members[0]].is_downward
    found = Judged(cause, is_downward, true, held, best >= 0, value, version, (ANY,))
    return found if count == rows.height else _spread(found, which, rows.height)


def _spread(judged: Judged, which: NDArray[np.intp], count: int) -> Judged:
    """What some readings say, among others that say nothing."""
    found = _nothing(judged, count)
    for all_, some in zip(found, judged, strict=True):
        if isinstance(all_, np.ndarray):
            all_[which] = some
    return found


def _is_held(
    told: Told, rule: Rule, numbers: NDArray[np.intp], values: NDArray[np.float64], *, is_forecast: bool
) -> NDArray[np.bool_]:
    """Whether a value that does not make a rule true is not beyond the threshold where it is clear either."""
    clear = told.limits.clear_thresholds[numbers]
    is_held = (values < clear) if rule.is_downward else (values > clear)
    if rule.unless is not None or is_forecast:
        # It is beyond, and yet the rule is not broken.
        is_held |= rule.compares(pl.Series(values), pl.Series(told.thresholds[numbers])).to_numpy()
    is_enabled: NDArray[np.bool_] = told.is_enabled[numbers]
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


def _numbers(values: pl.Series) -> NDArray[np.int64]:
    """Whole numbers, or instants in microseconds; 0 where there is none."""
    numbers: NDArray[np.int64] = (values.fill_null(0) if values.has_nulls() else values).cast(pl.Int64).to_numpy()
    return numbers


def _newest(events: pl.DataFrame) -> dict[tuple[int, int], int]:
    """For each hub epoch and partition when the newest event was received."""
    found: dict[tuple[int, int], int] = {}
    if events.is_empty():
        return found
    # Those of a partition are side by side.
    epoch, partition, received_at = (_numbers(events[name]) for name in ("hub_epoch", "partition", "received_at"))
    begins = np.append(0, 1 + np.flatnonzero((np.diff(epoch) != 0) | (np.diff(partition) != 0)))
    newest = np.maximum.reduceat(received_at, begins)
    for *place, at in zip(epoch[begins].tolist(), partition[begins].tolist(), newest.tolist(), strict=True):
        found[place[0], place[1]] = max(at, found.get((place[0], place[1]), at))
    return found


def _joined(parts: Sequence[Readings]) -> Readings:
    """Readings and revisions together; what one of them says nothing of is not evaluated there."""
    apart = ("entities", "code", "causes", "versions", "silences", "silent_after", "has_value")
    names = [name for name in Readings._fields if name not in apart]
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    order = np.argsort(arrays["order"], kind="stable")
    arrays = {name: values[order] for name, values in arrays.items()}
    counts = [len(part.code) for part in parts]
    entities, code = coded(np.concatenate([part.entities[part.code] for part in parts])[order])
    causes: dict[str, list[Judged | None]] = {}
    for at, part in enumerate(parts):
        for judged in part.causes:
            causes.setdefault(judged.cause, [None] * len(parts))[at] = judged
    return Readings(
        **arrays,
        entities=entities,
        code=code,
        causes=[_joined_cause(cause, found, counts, order) for cause, found in causes.items()],
        versions=parts[0].versions,
        silences=parts[0].silences,
        silent_after=parts[0].silent_after,
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
    return known._replace(
        true=np.zeros(count, np.int8),
        held=np.zeros(count, np.int8),
        is_evaluated=np.zeros(count, bool),
        value=np.full(count, np.nan),
        version=np.zeros(count, np.int64),
    )
