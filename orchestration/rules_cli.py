"""The commands `pulselake rules …`."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestration.instants import INSTANT, instant, now, text_of
from orchestration.terminal import err, fail, out

if TYPE_CHECKING:
    import polars as pl

    from assets.reference.rules import RuleChanges, Wanted
    from resources.lake import Lake
    from resources.settings import Settings

RULE = Annotated[str, typer.Argument(help="The rule's id, such as glucose_low.")]
PATIENT = Annotated[int | None, typer.Option(metavar="N", help="For this patient only.")]
GROUP = Annotated[str | None, typer.Option(metavar="NAME", help="For patients of this group only.")]
HOURS = Annotated[
    str | None, typer.Option(metavar="FROM-TO", help="Within these hours of the patient's clock only: 22:00-06:00.")
]
SINCE = Annotated[
    str | None, typer.Option("--valid-from", metavar="INSTANT", help=f"From when it holds; default: now. {INSTANT}")
]
NOTE = Annotated[str | None, typer.Option(metavar="TEXT", help="Why.")]
BY = Annotated[str | None, typer.Option(metavar="NAME", help="Who changes it.")]
FILE = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV with a header, in UTF-8.")]
SHOWN = ("rule_id", "scope", "hours", "kind", "column", "comparison", "threshold", "severity", "is_enabled", "version")


def rule_commands(
    settings: Callable[[], "Settings"], explained: Callable[[], AbstractContextManager[None]]
) -> typer.Typer:
    """The commands.

    Args:
        settings: reads the settings.
        explained: turns errors that name their remedy into a message.
    """
    commands = typer.Typer(help="Rules that raise alerts: thresholds by patient, group and hour.", no_args_is_help=True)

    def change(wanted: "Sequence[Wanted]", since: str | None, by: str | None) -> None:
        from assets.reference_store import put_rules
        from orchestration.system import open_lake

        valid_from = instant(since, "--valid-from") if since else now()
        with _told(), explained():
            lake = open_lake(settings())
            changes = put_rules(lake, _contracts(), wanted, valid_from=valid_from, clock=now, changed_by=by)
            _warn(lake, wanted, valid_from)
        _show_changes(changes, valid_from)

    @commands.command(name="list")
    def list_(
        patient: PATIENT = None,
        at: Annotated[str | None, typer.Option(metavar="INSTANT", help=f"Default: now. {INSTANT}")] = None,
    ) -> None:
        """List what holds: the rules that the streams bring, and what was set for patients, groups and hours."""
        import polars as pl

        from orchestration.system import open_lake

        chosen = instant(at, "--at") if at else now()
        with explained():
            lake = open_lake(settings())
            rows = _rules(lake).listed(chosen)
            if patient is not None:
                scopes = ["all", f"patient:{patient}", *(f"group:{name}" for name in _groups(lake, patient, chosen))]
                rows = rows.filter(pl.col("scope").is_in(scopes))
        _write(rows, [*SHOWN, "note"])

    @commands.command()
    def show(rule: RULE) -> None:
        """Show all versions of a rule, of all scopes and hours, and what else is kept of it."""
        import polars as pl

        from orchestration.system import open_lake

        with explained():
            rules = _rules(open_lake(settings()))
        if rule not in rules.definitions:
            fail(f"There is no rule '{rule}'. Rules: {', '.join(sorted(rules.definitions))}.")
        definition = rules.definitions[rule]
        own = [definition] if definition["known_at"] is None else []
        first = pl.DataFrame(own, schema=rules.versions.schema, orient="row")
        versions = pl.concat([first, rules.versions.filter(pl.col("rule_id") == rule).sort("version")])
        out.print(
            f"{rule}: a reading of {definition['stream']} whose {definition['column']} is "
            f"{definition['comparison'].replace('_', ' ')} the threshold; cause {definition['cause']}, "
            f"kind {definition['kind']}.",
            highlight=False,
        )
        if (span := rules.contracts[definition["stream"]].spans.get(definition["column"])) is not None:
            out.print(f"{span.name} is {span.said}.", highlight=False)
        hidden = {"rule_id", "stream", "column", "comparison", "cause", "kind", "hours_from", "hours_to"}
        shown = ["version", "scope", "hours", "threshold", "severity", "is_enabled"]
        _write(versions, shown + [name for name in versions.columns if name not in {*hidden, *shown}])

    @commands.command(name="set")
    def set_(
        rule: RULE,
        threshold: Annotated[float | None, typer.Option(help="In the unit of the rule's column.")] = None,
        severity: Annotated[str | None, typer.Option(help="info, warning or urgent.")] = None,
        patient: PATIENT = None,
        group: GROUP = None,
        hours: HOURS = None,
        valid_from: SINCE = None,
        note: NOTE = None,
        by: BY = None,
    ) -> None:
        """Set a rule's threshold or severity, for all or for some, and enable it there."""
        if threshold is None and severity is None:
            fail(f"rule {rule}: nothing to set was given. Give --threshold, --severity or both.")
        given = {"threshold": threshold, "severity": severity, "note": note}
        change([_wanted(rule, patient, group, hours, given | {"is_enabled": True})], valid_from, by)

    @commands.command()
    def disable(
        rule: RULE,
        patient: PATIENT = None,
        group: GROUP = None,
        hours: HOURS = None,
        valid_from: SINCE = None,
        note: NOTE = None,
        by: BY = None,
    ) -> None:
        """Let a rule raise no alerts, for all or for some."""
        change([_wanted(rule, patient, group, hours, {"is_enabled": False, "note": note})], valid_from, by)

    @commands.command()
    def reset(
        rule: RULE,
        patient: PATIENT = None,
        group: GROUP = None,
        hours: HOURS = None,
        valid_from: SINCE = None,
        note: NOTE = None,
        by: BY = None,
    ) -> None:
        """End what was set or disabled for exactly this scope and these hours: what is more general holds again."""
        change([_wanted(rule, patient, group, hours, {"note": note}, is_deleted=True)], valid_from, by)

    @commands.command()
    def check(file: FILE, valid_from: SINCE = None) -> None:
        """Say what a load of a file would do, or what is wrong with it; write nothing."""
        from assets.reference.rule_files import wanted_of
        from orchestration.system import open_lake

        since = instant(valid_from, "--valid-from") if valid_from else now()
        with _told(), explained():
            wanted = wanted_of(text_of(file), file.name)
            lake = open_lake(settings())
            changes = _rules(lake).changes(wanted, valid_from=since, known_at=now(), changed_by=None)
            _warn(lake, wanted, since)
        out.print(f"{changes.rows.height:,} would be changed, {changes.unchanged:,} unchanged.", highlight=False)

    @commands.command()
    def load(file: FILE, valid_from: SINCE = None, by: BY = None) -> None:
        """Check a file as a whole, and then change what differs from what holds, in one commit."""
        from assets.reference.rule_files import wanted_of

        with _told():
            wanted = wanted_of(text_of(file), file.name)
        change(wanted, valid_from, by)

    return commands


def _contracts() -> list[Any]:
    from orchestration.system import STREAMS

    return [each.contract for each in STREAMS]


def _rules(lake: "Lake") -> Any:
    from assets.reference.rules import RuleSet
    from assets.reference_store import rule_versions

    return RuleSet(_contracts(), rule_versions(lake))


def _wanted(
    rule: str,
    patient: int | None,
    group: str | None,
    hours: str | None,
    given: dict[str, Any],
    *,
    is_deleted: bool = False,
) -> "Wanted":
    """The change that options ask for, read as the cells of a file are."""
    from assets.reference.cells import CellError
    from assets.reference.rule_files import CELLS
    from assets.reference.rules import Wanted

    if patient is not None and group is not None:
        fail(f"rule {rule}: a change is for one patient or for one group. Give --patient or --group, not both.")
    begins, dash, ends = (hours or "").partition("-")
    if hours and not dash:
        fail(f"rule {rule}, hours: not two times. Write them with a hyphen between, such as 22:00-06:00.")
    scope = f"patient:{patient}" if patient is not None else f"group:{group}" if group is not None else "all"
    texts = {"rule_id": rule, "scope": scope, "hours_from": begins, "hours_to": ends}
    texts |= {name: str(value) for name, value in given.items() if value is not None}
    values: dict[str, Any] = {}
    for name, text in texts.items():
        try:
            values[name] = CELLS[name](text) if text else None
        except CellError as error:
            fail(f"rule {rule}, {name}: {error}. Nothing was written.")
    own = {name: values[name] for name in given if name in values}
    return Wanted(
        values["rule_id"], own, values["scope"], values["hours_from"], values["hours_to"], is_deleted=is_deleted
    )


def _people(lake: "Lake", at: datetime) -> "pl.DataFrame":
    from assets.reference.tables import PATIENTS
    from assets.reference_store import held

    return held(lake, PATIENTS, at)


def _groups(lake: "Lake", patient: int, at: datetime) -> list[str]:
    import polars as pl

    found = _people(lake, at).filter(pl.col("patient_id") == patient)["groups"].drop_nulls().to_list()
    return found[0].split(";") if found else []


def _warn(lake: "Lake", wanted: "Sequence[Wanted]", at: datetime) -> None:
    """Says which patients and groups nobody knows: a rule may be there first."""
    from assets.reference_store import groups_of

    people = _people(lake, at)
    known = {f"patient:{number}" for number in people["patient_id"]}
    known |= {f"group:{name}" for name in groups_of(people)}
    unknown = sorted({each.scope for each in wanted} - known - {"all"})
    for scope in unknown[:10]:
        err.print(f"Unknown in reference/patients: {scope}. The rule counts once there are readings.", highlight=False)
    if len(unknown) > 10:
        err.print(f"… and {len(unknown) - 10:,} more that reference/patients does not know.", highlight=False)


def _show_changes(changes: "RuleChanges", since: datetime) -> None:
    from assets.bitemporal import SAFETY_DELAY

    out.print(f"{changes.rows.height:,} changed, {changes.unchanged:,} unchanged.", highlight=False)
    for row in changes.rows.head(10).iter_rows(named=True):
        what = f"{row['comparison'].replace('_', ' ')} {row['threshold']:g}, {row['severity']}"
        if row["is_deleted"]:
            what = "reset"
        elif not row["is_enabled"]:
            what = "disabled"
        hours = f", {row['hours_from']}-{row['hours_to']}" if row["hours_from"] else ""
        out.print(f"  {row['rule_id']} ({row['scope']}{hours}): {what}; version {row['version']}", highlight=False)
    if changes.rows.height:
        out.print(
            f"It holds for readings that were measured from {since:%Y-%m-%d %H:%M:%S} UTC on and are pulled later than "
            f"in {SAFETY_DELAY.total_seconds():.0f} s.",
            highlight=False,
        )


def _write(rows: "pl.DataFrame", shown: Sequence[str]) -> None:
    import polars as pl

    from resources.results import Result, write

    hours = pl.concat_str("hours_from", pl.lit("-"), "hours_to").alias("hours")
    write(Result.of(rows.with_columns(hours).select(shown)), "table", sys.stdout)


@contextmanager
def _told() -> Iterator[None]:
    from assets.reference.rules import RuleChangeError
    from assets.reference_store import ReferenceClockError

    try:
        yield
    except (RuleChangeError, ReferenceClockError) as error:
        fail(str(error))
