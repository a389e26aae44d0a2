"""The command `pulselake`."""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from orchestration.alarms_cli import add_alarm_commands
from orchestration.audit_cli import audit
from orchestration.bridge_cli import bridge
from orchestration.copy_cli import copy
from orchestration.explained import command_settings as _settings
from orchestration.explained import explained as _explained
from orchestration.hospital_cli import hospital
from orchestration.import_cli import import_command
from orchestration.notify_cli import notify_commands
from orchestration.oltp_cli import oltp_commands
from orchestration.poll_command import poll
from orchestration.receive_cli import receive, tokens
from orchestration.reference_cli import reference_commands
from orchestration.rules_cli import rule_commands
from orchestration.terminal import counted, err, fail, out, progress, report, sent
from orchestration.web_cli import web_commands

if TYPE_CHECKING:
    from orchestration.processes import Children
    from orchestration.system import Stream
    from orchestration.work import Drained
    from resources.settings import Settings


MAX_FAULTS = 0.95
"""The other events are some that come late, twice or in another format."""


HOSPITAL_PATIENTS = 50
"""How many patients the hospital of `dev` has at most."""

STREAM_NAMES = "glucose_readings, device_readings, vitals, adverse_events, or a short name."


class Format(StrEnum):
    """How results are printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


class FileFormat(StrEnum):
    """How rows are written to a file."""

    CSV = "csv"
    PARQUET = "parquet"


app = typer.Typer(
    help="Real-time health monitoring on a lakehouse. Start with `pulselake demo`, then `pulselake dev`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def hub(
    port: Annotated[int | None, typer.Option(help="Port on 127.0.0.1; default PULSELAKE_HUB_PORT or 5672.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="Hubs in the schema of Microsoft's emulator; default hubs.json.")
    ] = None,
    retention_hours: Annotated[float, typer.Option(help="Events older than this are dropped.")] = 72.0,
    retention_bytes_per_partition: Annotated[
        int | None, typer.Option(min=1, help="The oldest events above this size are dropped; default: no limit.")
    ] = None,
) -> None:
    """Start the local Event Hubs until Ctrl-C; its log survives restarts and crashes."""
    from emulator.__main__ import main as serve
    from orchestration.live import hub_arguments

    settings = _settings()
    arguments = hub_arguments(settings, settings.hub_port if port is None else port, retention_hours)
    if config is not None:
        arguments += ["--config", str(config)]
    if retention_bytes_per_partition is not None:
        arguments += ["--retention-bytes-per-partition", str(retention_bytes_per_partition)]
    raise typer.Exit(serve(arguments))


@app.command()
def generate(
    stream: Annotated[str, typer.Option(help="glucose, devices, vitals or adverse_events.")] = "glucose",
    patients: Annotated[int, typer.Option(min=1, help="How many synthetic patients.")] = 100,
    rate: Annotated[float, typer.Option(min=0.001, help="Events a second over all patients.")] = 20.0,
    seconds: Annotated[float | None, typer.Option(min=0, help="Stop after so long; default: until Ctrl-C.")] = None,
    faults: Annotated[float, typer.Option(min=0, max=MAX_FAULTS, help="Share of malformed events.")] = 0.0,
    seed: Annotated[int, typer.Option(help="The same seed and clock give the same events.")] = 0,
    pack: Annotated[int, typer.Option(min=1, help="Readings in one event, as a JSON array.")] = 1,
    backlog: Annotated[
        int | None, typer.Option(min=1, help="Send so many events of the past at once, 5 minutes apart.")
    ] = None,
    alarms: Annotated[
        bool, typer.Option("--alarms", help="With lows, plateaus, flapping, silent sensors and late backfills.")
    ] = False,
) -> None:
    """Send readings of synthetic patients, or synthetic safety reports, to a stream's hub."""
    from generator.publisher import publish as send
    from generator.streams import STREAMS as GENERATED
    from generator.streams import events
    from orchestration.processes import stop_on_signals
    from resources.sources import described, publisher

    found, settings = _stream(stream), _settings()
    if found.short not in GENERATED:
        fail(f"The generator knows no stream '{stream}'. It makes: {', '.join(GENERATED)}.")
    now = datetime.now(UTC)
    make = partial(events, found.short, patients=patients, faults=faults, seed=seed, pack=pack, alarms=alarms)
    with _feasible():
        if backlog is None:
            made = make(start=now, rate=rate, seconds=seconds)
        else:
            spacing = timedelta(minutes=5)
            made = make(start=now - spacing * (backlog * pack // patients + 1), spacing=spacing, count=backlog)
    stop = stop_on_signals()
    with _explained(), publisher(settings, found.name) as hub:
        err.print(f"Sending to {described(settings, found.name)}; Ctrl-C ends.")
        report(send(made, hub, progress=sent, stop=stop))


@app.command()
def publish(
    stream: Annotated[str, typer.Argument(help=STREAM_NAMES)],
    file: Annotated[
        Path,
        typer.Argument(
            exists=True, dir_okay=False, help="One body a line, malformed ones too; a file *.bin is one body."
        ),
    ],
    records: Annotated[
        str | None, typer.Option(help="FILE is JSON, or a zip of it, with a list of this name; its elements are sent.")
    ] = None,
) -> None:
    """Send recorded lines, or a recorded body, to a stream's hub, byte for byte; or the records of a JSON file."""
    from generator.publisher import publish_file
    from resources.sources import publisher

    found, settings = _stream(stream), _settings()
    with _explained(), publisher(settings, found.name) as hub:
        published = publish_file(file, hub, records=records, progress=sent)
    report(published)
    for too_large in published.too_large:
        err.print(f"[red]Not sent:[/] {too_large}")
    raise typer.Exit(1 if published.too_large else 0)


@app.command()
def drain(
    streams: Annotated[list[str] | None, typer.Argument(help="Streams; default: all.")] = None,
) -> None:
    """Run sessions in this process until the streams have caught up, then refresh gold and reports.

    Exits with 1 if events had expired in the hub before they were read or alerts could not be published, with 130 if it
    was stopped.
    """
    from assets.stream.configured import limits_of
    from assets.stream.session import Totals
    from orchestration.system import STREAMS, open_lake
    from orchestration.work import drain as work_off
    from orchestration.work import refresh_patients, refresh_reports
    from resources.signals import DeferredSignals

    settings = _settings()
    # What people did to alarms comes before the readings of those that have some.
    of_all = sorted(STREAMS, key=lambda stream: stream.contract.alarms is not None)
    chosen = [_stream(name) for name in streams] if streams else of_all
    is_complete = True
    with _explained(), DeferredSignals() as signals:
        for stream in chosen:
            started = time.monotonic()

            def show(totals: Totals, name: str = stream.name, started: float = started) -> None:
                progress(f"{name}: {totals.events:,} events, {totals.events / (time.monotonic() - started):,.0f}/s")

            limits = limits_of(settings, stream.contract)
            done = work_off(stream, settings, limits, show, lambda: signals.is_noted, progress)
            _show_drained(stream.name, done, time.monotonic() - started)
            is_complete &= not done.totals.expired_events and not done.totals.alerts_withheld
            if signals.is_noted:
                break
        else:
            refresh_patients(open_lake(settings), progress)
            refresh_reports(open_lake(settings), progress, lambda: signals.is_noted)
            progress("")
        if signals.is_noted:
            err.print("Stopped: what was pulled is committed; `pulselake drain` goes on from here.")
            raise typer.Exit(130)
    raise typer.Exit(0 if is_complete else 1)


def _show_drained(stream: str, done: "Drained", seconds: float) -> None:
    totals = done.totals
    progress("")
    out.print(
        f"{stream}: {counted(totals.events, 'event')} in {seconds:.1f} s: {totals.silver:,} silver, "
        f"{totals.quarantine:,} quarantined, {counted(totals.duplicates, 'duplicate')}, "
        f"{counted(totals.alerts, 'alert')}"
        + (f", {totals.skipped:,} skipped" if totals.skipped else "")
        + (f"; {totals.caught_up_events:,} caught up from bronze" if totals.caught_up_events else "")
    )
    for table, rows in done.gold_rows.items():
        out.print(f"  {table}: {counted(rows, 'row')}")
    if totals.alerts_withheld:
        waiting = f"{stream}: alerts are stored but not published; the next session publishes them."
        err.print(f"[red]{escape(f'{waiting} {totals.alerts_withheld}')}[/]", highlight=False)
    if totals.expired_events:
        err.print(
            f"[red]{stream}: {totals.expired_events:,} events had expired in the hub before they were read; they are "
            "lost. Drain more often, or keep events longer in the hub.[/]"
        )


@app.command()
def replay(
    stream: Annotated[str, typer.Argument(help=STREAM_NAMES)],
) -> None:
    """Process quarantined readings again after a fix: rebuilds the first day that it changes and those after it."""
    from assets.stream.rebuild import Rebuilt
    from orchestration.work import replay as process_again

    def show(rebuilt: Rebuilt) -> None:
        before, after = rebuilt.before, rebuilt.after
        progress("")
        out.print(
            f"{rebuilt.day}: quarantine {before['quarantine']:,} → {after['quarantine']:,}, "
            f"silver {before['silver']:,} → "
            f"{after['silver']:,}, {rebuilt.new_alerts:,} new alerts"
        )

    found = _stream(stream)
    with _explained():
        changed = process_again(found, _settings(), show, progress)
        progress("")
        if not changed:
            out.print(f"{found.name}: every quarantined reading would be quarantined again; nothing changed.")


@app.command()
def rederive(
    stream: Annotated[str, typer.Argument(help=STREAM_NAMES)],
) -> None:
    """Make silver, quarantine and alerts of all days anew from bronze, after a contract or a rule changed.

    The new tables are made beside the old ones and swapped at the end. A run that was stopped goes on where it was.
    """
    from orchestration.work import rederive as make_anew

    found = _stream(stream)
    with _explained():
        make_anew(found, _settings(), progress)
        progress("")
        out.print(f"{found.name}: silver, quarantine, alerts and gold are made anew from bronze.")


@app.command()
def retention(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be archived and removed.")] = False,
) -> None:
    """Archive and remove ingest dates that are older than PULSELAKE_KEEP_DAYS says."""
    from orchestration.retention import retire
    from resources.signals import DeferredSignals

    settings = _settings()
    with _explained(), DeferredSignals() as signals:
        run = retire(settings, progress, is_dry=dry_run, should_stop=lambda: signals.is_noted)
        progress("")
        for due in run.due:
            out.print(f"{due.table.name}: {due.day} would be archived and removed, {due.rows:,} rows")
        for each in run.retired:
            where = f"archived in {each.manifest}" if each.manifest else "not archived"
            out.print(f"{each.table}: {each.day} removed, {each.rows:,} rows, {where}", highlight=False)
        for due, reason in run.held:
            err.print(f"{due.table.name}: {due.day} stays for now: {reason}", highlight=False)
        if not settings.keep_days:
            out.print("PULSELAKE_KEEP_DAYS is not set: everything is kept.")
        elif not (run.due or run.retired or run.held):
            out.print("No ingest date has expired.")
        if signals.is_noted:
            err.print("Stopped: what was removed is archived and recorded; `pulselake retention` goes on from here.")
            raise typer.Exit(130)


archive = typer.Typer(help="Rows that retention archived.", no_args_is_help=True)
app.add_typer(archive, name="archive")


@archive.command()
def verify() -> None:
    """Read every archive of removed rows and compare it with what was recorded; exits with 1 if one is not intact."""
    from orchestration.retention import verify as look_through

    intact = broken = 0
    with _explained():
        for each in look_through(_settings()):
            progress(f"{each.record.table_name} of {each.record.ingest_date} …")
            intact, broken = intact + (not each.problem), broken + bool(each.problem)
            if each.problem:
                progress("")
                name = f"{each.record.table_name} of {each.record.ingest_date}"
                err.print(f"[red]{escape(f'{name}: {each.problem}')}[/]", highlight=False)
        progress("")
    out.print(f"{intact:,} archives are intact, {broken:,} are not.")
    raise typer.Exit(1 if broken else 0)


@archive.command()
def restore(
    table: Annotated[str, typer.Argument(help="Such as bronze/glucose_readings.")],
    day: Annotated[datetime, typer.Argument(help="The ingest date.", formats=["%Y-%m-%d"])],
) -> None:
    """Put archived rows of an ingest date back into their table; they stay for two weeks."""
    from orchestration.retention import restore as put_back

    with _explained():
        record = put_back(_settings(), table, day.date(), datetime.now(UTC))
    out.print(f"{table}: {record.rows:,} rows of {record.ingest_date} are back.")


app.add_typer(poll, name="poll")
app.add_typer(bridge, name="bridge")
app.command()(hospital)
app.command()(copy)
app.command()(audit)
app.command()(receive)
app.add_typer(tokens, name="tokens")


@app.command()
def pages() -> None:
    """Say where the pages for people are: the newest of each kind. They open in any browser."""
    from orchestration.pages import newest_pages
    from orchestration.system import open_lake

    with _explained():
        lake = open_lake(_settings())
        found = newest_pages(lake)
    for path, count in found:
        out.print(escape(f"{lake.root}/{path}") + f"  ({count:,} days)", highlight=False, soft_wrap=True)
    if not found:
        err.print("No page was written yet. The job `data_quality` in Dagster writes today's: docs/sql-and-reports.md")
        raise typer.Exit(1)


hubs = typer.Typer(help="The streams' hubs.", no_args_is_help=True)
app.add_typer(hubs, name="hubs")


@hubs.command()
def accept(
    stream: Annotated[str, typer.Argument(help=STREAM_NAMES)],
) -> None:
    """Go on with a hub that was recreated or failed over, from its beginning; what was read of the old one stays."""
    from orchestration.work import accept_hub
    from resources.sources import described

    found, settings = _stream(stream), _settings()
    with _explained():
        epoch = accept_hub(found, settings)
    name = described(settings, found.name)
    if epoch is None:
        out.print(f"{found.name}: {name} is the one that the stream is read from; nothing changed.")
        return
    out.print(
        f"{found.name}: goes on with the new {name} from its beginning. Its events have hub_epoch {epoch} in "
        "bronze; what was read from the hub before it stays."
    )


@app.command()
def sql(
    statement: Annotated[str | None, typer.Argument(help="One SELECT; without it an interactive shell opens.")] = None,
    format: Annotated[Format, typer.Option(help="How to print the rows.")] = Format.TABLE,
    raw: Annotated[bool, typer.Option("--raw", help="Leave texts in csv that a spreadsheet runs as formulas.")] = False,
) -> None:
    """Ask any table: bronze.glucose_readings, silver.…, quarantine.…, alerts.…, gold.glucose_daily, …"""
    from orchestration.asking import analytics
    from orchestration.system import open_lake
    from resources.analytics import QueryError
    from resources.results import write
    from resources.sql_shell import shell

    settings = _settings()
    with _explained():
        asked = analytics(open_lake(settings), settings)
    if statement is None:
        shell(asked, sys.stdin, sys.stdout)
        return
    try:
        with asked.stream(statement) as result:
            write(result, format.value, sys.stdout, raw=raw)
    except QueryError as error:
        fail(str(error))
    except BrokenPipeError:
        sys.stderr.close()


@app.command()
def export(
    report: Annotated[str, typer.Argument(help="A report's name, any table: <layer>.<table>, or fhir.")],
    format: Annotated[
        FileFormat | None, typer.Option(help="Default: as the ending of --output says, else csv.", show_default=False)
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Default: the table's name, here.", show_default=False)] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Leave texts in csv that a spreadsheet runs as formulas.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    patient: Annotated[int | None, typer.Option(help="fhir: a Bundle of one patient; default: lines of all.")] = None,
) -> None:
    """Write a whole report or table to a CSV or Parquet file, which appears once it is complete.

    `fhir` writes glucose and vital signs as FHIR R4 Observations.
    """
    from orchestration import exporting
    from orchestration.asking import analytics
    from orchestration.system import open_lake
    from resources.signals import DeferredSignals

    settings = _settings()
    with _explained(), DeferredSignals() as signals:
        asked = analytics(open_lake(settings), settings)
        if report == "fhir":
            from orchestration.fhir_exporting import export_fhir

            file = output or Path("fhir.ndjson" if patient is None else f"patient-{patient}.json")
            count = export_fhir(
                asked,
                file,
                patient,
                force=force,
                advance=lambda done: progress(f"{done:,} Observations …"),
                should_stop=lambda: signals.is_noted,
            )
            progress("")
            out.print(escape(f"{count:,} Observations are in {file}."), highlight=False)
            return
        table = exporting.find(asked, report)
        chosen = format.value if format else exporting.format_of(output) if output else "csv"
        file = output or Path(f"{table.sql_name}.{chosen}")
        with exporting.progress_bar(err, table, exporting.count(asked, table)) as advance:
            rows = exporting.export(
                asked, table, file, chosen, raw=raw, force=force, advance=advance, should_stop=lambda: signals.is_noted
            )
    out.print(escape(f"{table.sql_name}: {rows:,} rows are in {file}."), highlight=False)


@app.command()
def status(
    seconds: Annotated[float, typer.Argument(min=0.1, help="With --watch: seconds from look to look.")] = 2.0,
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again until Ctrl-C.")] = False,
    looks: Annotated[int | None, typer.Option(min=1, help="With --watch: end after so many looks.")] = None,
) -> None:
    """Show lag by partition, who is at work, the last session, today's quarantine by reason and alerts by rule.

    With --watch: who is at work on each stream, how far it is behind, and how many rows come a second.
    """
    from orchestration.watch import watch as keep_looking
    from orchestration.watch import workers

    settings, now = _settings(), datetime.now(UTC)
    if watch:
        with _explained(), suppress(KeyboardInterrupt):
            keep_looking(settings, out, seconds, looks)
        return

    from orchestration.last_sessions import last_sessions
    from orchestration.oltp import line_of
    from orchestration.screens import show_status
    from orchestration.status import status as look
    from orchestration.watching import lines_of

    with _explained():
        found = look(settings, now.date())
        store, watched = line_of(settings), lines_of(settings)
    show_status(out, found, last_sessions(settings, now), workers(settings))
    if store:
        out.print(escape(store), highlight=False)
    for line in watched:
        out.print(escape(line), highlight=False)
    raise typer.Exit(1 if any(each.problem for each in found) else 0)


@app.command()
def metrics(
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="On 127.0.0.1; default PULSELAKE_METRICS_PORT or 9464.")
    ] = None,
) -> None:
    """Serve the metrics of all processes of this home to Prometheus until Ctrl-C; `pulselake dev` does so by itself."""
    from orchestration.processes import stop_on_signals
    from resources.metrics_endpoint import served

    settings, stop = _settings(), stop_on_signals()
    with _explained(), served(settings.metrics, port or settings.metrics_port) as address:
        err.print(f"Metrics: {address}  Ctrl-C ends.")
        stop.wait()


@app.command()
def dev(
    rate: Annotated[float, typer.Option(min=0, help="Glucose events a second; 0 sends none.")] = 20.0,
    patients: Annotated[int, typer.Option(min=1)] = 100,
    faults: Annotated[float, typer.Option(min=0, max=MAX_FAULTS, help="Share of malformed events.")] = 0.02,
) -> None:
    """Run hub, generator and Dagster with its web page until Ctrl-C, or until the terminal is closed."""
    from orchestration.home import locked
    from orchestration.live import (
        Generators,
        Load,
        running,
        start_bridges,
        start_notifications,
        start_page,
        start_receiver,
        start_store_sync,
    )
    from orchestration.processes import StoppedError, stop_on_signals
    from orchestration.reference import generate_if_empty
    from orchestration.system import open_lake
    from resources.accounts import read_accounts
    from resources.metrics_endpoint import EndpointError, served

    settings, stop = _settings(), stop_on_signals()
    with _explained():
        # Dagster would start without the accounts of a file that is wrong.
        read_accounts(settings.accounts_file)
    loads = [
        Load("glucose", patients, rate, faults),
        Load("devices", patients, max(rate / 5, 0.1), faults),
        Load("vitals", patients, rate, faults),
        Load("adverse_events", patients, max(rate / 20, 0.1), faults),
    ]
    loads = loads if rate else []
    with _feasible():
        for load in loads:
            load.events(None)
    generators = Generators(stop)
    with _explained():
        # Before anything is sent: a version counts some seconds after it is loaded.
        if loads and generate_if_empty(open_lake(settings), patients):
            err.print("Reference data of the synthetic patients is loaded.")
    beds = 0 if settings.has_clinical_sources or not loads else min(patients, HOSPITAL_PATIENTS)
    err.print(f"Starting the hub{', a synthetic hospital' if beds else ''} and Dagster …")

    def start_taking_in(children: "Children") -> None:
        # What a broker gets before it knows the bridge is lost, so nothing that takes a minute comes before that.
        if bridges := start_bridges(children, settings):
            err.print(f"Bridges: {', '.join(bridges)}", highlight=False)
        if address := start_receiver(children, settings):
            err.print(f"Apps post to {address}", highlight=False)

    with (
        _explained(),
        locked(settings.root) as lock,
        running(settings, lock, stop, hospital=beds, first=start_taking_in) as children,
        ExitStack() as stack,
    ):
        start_store_sync(children, settings)
        start_notifications(children, settings)
        said = _page_said(settings)
        start_page(children, settings)
        for load in loads:
            generators.start(settings, load, None)
        try:
            watched = f"Metrics: {stack.enter_context(served(settings.metrics, settings.metrics_port))}"
        except EndpointError as error:
            # Nobody may be there who looks at them: the system runs without.
            watched = f"[red]{escape(str(error))}[/]"
        err.print(said, highlight=False)
        err.print(
            f"[bold]Dagster: http://127.0.0.1:{settings.web_port}[/]  "
            f"Logs: {children.log('dagster').parent}  Ctrl-C ends."
        )
        err.print(watched, highlight=False)
        err.print('Meanwhile, elsewhere: `pulselake status`, `pulselake sql "SELECT * FROM gold.glucose_daily"`')
        with suppress(StoppedError):
            while True:
                generators.check()
                children.wait(1.0)
        err.print("Stopping …")
        generators.join()


@app.command()
def demo(
    seconds: Annotated[float, typer.Option(min=1, help="How long to stream.")] = 60.0,
) -> None:
    """Run the whole system for a minute on synthetic patients and account for every event."""
    from orchestration.demo import demo as run
    from orchestration.processes import stop_on_signals
    from orchestration.screens import show_summary

    settings = _settings()
    with _explained():
        summary = run(settings, seconds, err.print, stop_on_signals())
    show_summary(out, summary, settings.page_port)
    raise typer.Exit(1 if summary.problems else 0)


def _page_said(settings: "Settings") -> str:
    """Where the live page is; and the password of its first account, which is made here and shown this once."""
    from orchestration.web_cli import first_account

    password = first_account(settings)
    how = "" if password is None else f"  Sign in as admin with {password}, which is not shown again."
    return f"[bold]Live page: http://127.0.0.1:{settings.page_port}[/]{how}"


def main() -> None:
    """The entry point."""
    try:
        app()
    except Exception as error:
        if problem := _problem_of_home(error):
            err.print(f"[red]{escape(problem)}[/]", highlight=False)
            sys.exit(1)
        raise


def _problem_of_home(error: Exception) -> str:
    """What is wrong with the home, if an error may be due to it; else an empty text."""
    from deltalake.exceptions import DeltaError

    from orchestration.home import is_writable
    from resources.settings import Settings

    if not isinstance(error, OSError | DeltaError):
        return ""
    home = Settings().home.absolute()
    if is_writable(home):
        return ""
    return (
        f"Nothing can be written in {home}, so the command was not completed. Give the user who runs it the right to "
        "write there, or name another folder with PULSELAKE_HOME."
    )


def _stream(name: str) -> "Stream":
    from orchestration.system import UnknownStreamError, stream

    try:
        return stream(name)
    except UnknownStreamError as error:
        fail(str(error))


@contextmanager
def _feasible() -> Iterator[None]:
    """Turns what the generator cannot do into a message and exit code 2, as typer does with one option alone."""
    try:
        yield
    except ValueError as error:
        raise typer.BadParameter(f"{error}. Choose fewer --faults, a lower --rate or more --patients.") from error


add_alarm_commands(app, _settings, _explained)
import_command(app, _settings, _explained)
app.add_typer(reference_commands(_settings, _explained), name="reference")
app.add_typer(rule_commands(_settings, _explained), name="rules")
app.add_typer(oltp_commands(_settings, _explained), name="oltp")
app.add_typer(notify_commands(_settings, _explained), name="notify")
app.add_typer(web_commands(_settings, _explained), name="web")


if __name__ == "__main__":
    main()
