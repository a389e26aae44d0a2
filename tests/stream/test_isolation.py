"""Domain code that fails on one reading costs that reading only, and no text of a body leaves the tables."""

import logging
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from assets.glucose.assets import CONTRACT
from assets.stream.contract import MAX_AVERAGED, Contract, ContractError
from assets.stream.isolation import isolated
from assets.stream.process import Outcome, ProcessingError, Processor
from assets.stream.rebuild import rebuild
from assets.stream.store import StreamStore
from tests.stream.batches import micro_batches, process, process_bodies
from tests.stream.hubs import MemoryPublisher
from tests.stream.scenarios import EAGER, NOON, body, hub_with, lake_in, reading, run_session
from tests.stream.tables import everything, rows

CANARY = "canary-4711"
POISON = body(reading(5, location=CANARY))
GOOD = [body(reading(minutes, value=300)) for minutes in range(5)]

Clean = Callable[[pl.DataFrame], pl.DataFrame]


def is_poison(decoded: pl.DataFrame) -> pl.Series:
    return (decoded["location"] == CANARY).fill_null(False)


def raising(decoded: pl.DataFrame) -> pl.DataFrame:
    if is_poison(decoded).any():
        raise LookupError(f"cannot digest {CANARY}")
    return CONTRACT.clean(decoded)


def quoting(decoded: pl.DataFrame) -> pl.DataFrame:
    """What Polars raises quotes the value."""
    if is_poison(decoded).any():
        decoded["location"].cast(pl.Int64)
    return CONTRACT.clean(decoded)


def dropping(decoded: pl.DataFrame) -> pl.DataFrame:
    return CONTRACT.clean(decoded.filter(~is_poison(decoded)))


def without_a_column(decoded: pl.DataFrame) -> pl.DataFrame:
    cleaned = CONTRACT.clean(decoded)
    return cleaned.drop("glucose_mg_dl") if is_poison(decoded).any() else cleaned


def of_another_type(decoded: pl.DataFrame) -> pl.DataFrame:
    cleaned = CONTRACT.clean(decoded)
    return cleaned.cast({"glucose_mg_dl": pl.String}) if is_poison(decoded).any() else cleaned


def with_value(value: float | None) -> Clean:
    def clean(decoded: pl.DataFrame) -> pl.DataFrame:
        poisoned = pl.when(pl.lit(is_poison(decoded)))
        return CONTRACT.clean(decoded).with_columns(
            glucose_mg_dl=poisoned.then(pl.lit(value, pl.Float64)).otherwise("glucose_mg_dl"),
            reason=poisoned.then(pl.lit(None, pl.String)).otherwise("reason"),
        )

    return clean


FAULTS: dict[str, tuple[Clean, str]] = {
    "raises": (raising, "failed:LookupError"),
    "raises what quotes a value": (quoting, "failed:InvalidOperationError"),
    "drops a reading": (dropping, "failed:ContractError"),
    "forgets a column": (without_a_column, "failed:ContractError"),
    "returns another type": (of_another_type, "failed:ContractError"),
    "returns no value": (with_value(None), "failed:ContractError"),
    "returns what is no number": (with_value(float("nan")), "failed:OverflowError"),
    "returns infinity": (with_value(float("inf")), "failed:OverflowError"),
    "returns more than a window averages": (with_value(2 * MAX_AVERAGED), "failed:OverflowError"),
}


def with_clean(clean: Clean) -> Contract:
    return replace(CONTRACT, clean=clean)


@pytest.mark.parametrize(("clean", "reason"), FAULTS.values(), ids=FAULTS)
def test_one_reading_on_which_code_fails_is_quarantined_and_its_neighbours_are_stored(
    clean: Clean, reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    lake, hub = lake_in(tmp_path), hub_with([*GOOD[:3], POISON, *GOOD[3:]], partitions=1)
    totals = run_session(lake, hub, contract=with_clean(clean))
    assert rows(lake, "bronze").height == 6
    assert rows(lake, "silver")["sequence_number"].to_list() == [0, 1, 2, 4, 5]
    assert rows(lake, "quarantine").select("sequence_number", "reason", "body").rows() == [(3, reason, POISON.decode())]
    assert rows(lake, "alerts").height > 0
    assert CANARY not in caplog.text + str(totals)


@pytest.mark.parametrize("clean", [raising, dropping], ids=["raises", "drops a reading"])
def test_a_rebuild_and_any_cut_into_micro_batches_quarantine_the_same_reading(clean: Clean, tmp_path: Path) -> None:
    contract, bodies = with_clean(clean), [POISON, *GOOD, POISON, body(reading(1), reading(5, location=CANARY))]
    one_by_one = process(micro_batches(*([each] for each in bodies)), contract).quarantine
    together = process_bodies(*bodies, contract=contract).quarantine
    places = ["sequence_number", "event_index", "reason"]
    assert one_by_one[places].rows() == together[places].rows()
    lake, hub = lake_in(tmp_path), hub_with(bodies, take=2)
    run_session(lake, hub, contract=contract)
    streamed = everything(lake)
    rebuild(contract, lake, NOON.date())
    assert everything(lake) == streamed


def test_readings_that_come_back_in_another_order_are_put_back() -> None:
    def reordering(decoded: pl.DataFrame) -> pl.DataFrame:
        return CONTRACT.clean(decoded).reverse()

    outcome = process_bodies(*GOOD, contract=with_clean(reordering))
    assert outcome.silver.equals(process_bodies(*GOOD).silver)


def test_code_that_always_fails_quarantines_everything() -> None:
    def failing(decoded: pl.DataFrame) -> pl.DataFrame:
        raise ZeroDivisionError

    outcome = process_bodies(*GOOD, contract=with_clean(failing))
    assert outcome.quarantine["reason"].to_list() == ["failed:ZeroDivisionError"] * len(GOOD)
    assert outcome.silver.is_empty()


def test_few_failing_rows_cost_few_tries() -> None:
    tries: list[int] = []

    def work(rows: pl.DataFrame) -> pl.DataFrame:
        tries.append(rows.height)
        if rows["number"].is_in([17]).any():
            raise ValueError
        return rows

    done = pl.concat(isolated(pl.DataFrame({"number": range(1024)}), work, lambda row, _: row.clear()))
    assert done["number"].to_list() == [number for number in range(1024) if number != 17]
    assert len(tries) == 21


def test_events_that_the_engine_cannot_process_are_kept_in_bronze_and_processed_once_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(self: Processor, *arguments: object) -> Outcome:
        raise ContractError(f"cannot process {CANARY}")

    lake, hub = lake_in(tmp_path), hub_with([POISON, *GOOD], partitions=1, take=2)
    with monkeypatch.context() as patched:
        patched.setattr(Processor, "_process", failing)
        for _ in range(2):
            with pytest.raises(ProcessingError, match=r"failed with ContractError.*drain glucose_readings") as failed:
                run_session(lake, hub)
            assert CANARY not in repr(failed.value)
            assert failed.value.__cause__ is None
            hub.send(GOOD, NOON)
        # The first session ended where processing failed; the second knows that and keeps all that comes in bronze.
        assert rows(lake, "bronze").height == 11
        assert rows(lake, "silver").is_empty()
    run_session(lake, hub)
    assert rows(lake, "bronze").height == 16
    assert rows(lake, "silver").height == 6


def test_a_session_that_stores_in_bronze_alone_keeps_no_micro_batch_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(self: Processor, *arguments: object) -> Outcome:
        raise ContractError

    lake, hub = lake_in(tmp_path), hub_with(GOOD * 12, partitions=1, take=1)
    monkeypatch.setattr(Processor, "_process", failing)
    with pytest.raises(ProcessingError):
        run_session(lake, hub)
    with pytest.raises(ProcessingError) as failed:
        run_session(lake, hub)
    assert rows(lake, "bronze").height == 60
    assert len(traceback.extract_tb(failed.value.__traceback__)) < 12


def test_an_alert_that_cannot_be_encoded_is_set_aside_and_the_others_are_published(tmp_path: Path) -> None:
    def payload(alerts: pl.DataFrame) -> pl.DataFrame:
        if (alerts["location"] == CANARY).fill_null(False).any():
            raise ValueError(CANARY)
        return CONTRACT.alert_payload(alerts)

    publisher, contract = MemoryPublisher(), replace(CONTRACT, alert_payload=payload)
    lake = lake_in(tmp_path)
    run_session(
        lake, hub_with([*GOOD, body(reading(30, 300, location=CANARY))]), contract=contract, publisher=publisher
    )
    stored = rows(lake, "alerts")
    refused = stored.filter(pl.col("location") == CANARY).height
    assert refused > 0
    assert len(publisher.published) == stored.height - refused


def test_alerts_that_are_too_large_for_their_hub_are_counted_and_not_offered_again(tmp_path: Path) -> None:
    class Small(MemoryPublisher):
        """Takes no events of one patient, as if they were too large."""

        def publish(self, bodies, keys) -> list[int]:
            refused = [at for at, each in enumerate(bodies) if b'"patient_id":2,' in each]
            taken = [at for at in range(len(bodies)) if at not in refused]
            super().publish([bodies[at] for at in taken], [keys[at] for at in taken])
            return refused

    lake, publisher = lake_in(tmp_path), Small()
    hub = hub_with([*GOOD, body(reading(30, 300, patient=2))])
    assert run_session(lake, hub, publisher=publisher, limits=EAGER).alerts_withheld is None
    store = StreamStore(CONTRACT, lake)
    refused = rows(lake, "alerts").filter(pl.col("patient_id") == 2).height
    assert store.set_aside(NOON.date()) == refused > 0
    assert not store.has_unpublished()
    again = Small()
    run_session(lake, hub, publisher=again)
    assert again.published == []
