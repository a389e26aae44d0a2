"""Whatever bytes come in, adapters raise nothing, and each body comes to at least one outcome."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assets.adapters.bodies import outcomes_of
from assets.adapters.formats import FORMATS, Format, looks_like
from assets.adapters.outcomes import Context, Plain, Reading, Refused, Reject, Skip
from assets.adapters.values import LocalTimes, instant
from assets.stream.decode import parsed
from tests.adapters.samples_as_events import SAMPLES

pytestmark = pytest.mark.slow

CONTEXT = Context(binding="a", zone="Europe/Berlin", base="https://x/", enqueued_at="2026-06-01T00:00:00Z")
TEXTS = {
    "clarity": "dexcom_clarity_en.csv",
    "libreview": "libreview_us.csv",
    "carelink": "carelink_780g.csv",
    "apple-health": "apple_export.xml",
}
DOCUMENTS = {
    "fhir": "fhir_bundle.json",
    "dexcom-v3": "dexcom_v3_egvs.json",
    "nightscout": "nightscout_entries.json",
    "dexcom-share": "dexcom_share.json",
    "librelinkup": "librelinkup_graph.json",
    "tidepool": "tidepool_data.json",
    "health-auto-export": "health_auto_export.json",
    "huawei": "huawei_samples.json",
    "telemetry": "iot_central.json",
    "pulselake": "nightscout_entries.json",
    "carelink-connect": "carelink_connect.json",
    "iot-hub-routing": "iot_central.json",
    "event-hubs-capture": "iot_central.json",
}

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["2026-06-01T08:00:00Z", "2026-06-01", "mg/dL", "120", "Low", "1e999", "9" * 400, "\ud800", "-1"]),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


def examples(count: int) -> settings:
    return settings(max_examples=count, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def _changed(document: Any, changes: list[tuple[list[int], Any]]) -> Any:
    """A copy of a document in which some places, found by going down by numbers, hold other values."""
    changed = json.loads(json.dumps(document))
    for path, value in changes:
        here: Any = changed
        for step in path:
            keys = list(here) if isinstance(here, dict) else range(len(here)) if isinstance(here, list) else []
            if not keys:
                break
            key = keys[step % len(keys)]
            if step % 3 == 0 or not isinstance(here[key], dict | list):
                here[key] = value
                break
            here = here[key]
    return changed


def _all_known(found: list[Any]) -> bool:
    return all(isinstance(each, Reading | Plain | Skip | Reject) for each in found)


@pytest.mark.parametrize("of", [each for each in FORMATS if not each.is_text], ids=lambda of: of.name)
@examples(25)
@given(
    changes=st.lists(st.tuples(st.lists(st.integers(0, 50), min_size=1, max_size=7), values), max_size=5),
    context=st.sampled_from([CONTEXT, Context()]),
)
def test_a_document_with_other_values_in_some_places(
    of: Format, changes: list[tuple[list[int], Any]], context: Context
):
    document = _changed(json.loads((SAMPLES / DOCUMENTS[of.name]).read_text()), changes)
    assert _all_known([*of.adapt(document, context)])
    of_json = (each for each in FORMATS if not each.is_text)
    assert looks_like(document, is_text=False) is next((each for each in of_json if each.looks_so(document)), None)


@pytest.mark.parametrize("of", [each for each in FORMATS if not each.is_text], ids=lambda of: of.name)
@examples(15)
@given(document=values)
def test_any_document(of: Format, document: Any):
    assert _all_known([*of.adapt(document, CONTEXT)])
    of.looks_so(document)


@pytest.mark.parametrize("of", [each for each in FORMATS if each.is_text], ids=lambda of: of.name)
@examples(25)
@given(cuts=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 30), st.text(max_size=6)), max_size=6))
def test_a_text_with_other_characters_in_some_places(of: Format, cuts: list[tuple[float, int, str]]):
    text = (SAMPLES / TEXTS[of.name]).read_text()
    for share, length, other in cuts:
        place = int(share * len(text))
        text = text[:place] + other + text[place + length :]
    assert _all_known([*of.adapt(text, CONTEXT)])


@pytest.mark.parametrize("of", [each for each in FORMATS if each.is_text], ids=lambda of: of.name)
@examples(15)
@given(text=st.text())
def test_any_text(of: Format, text: str):
    assert _all_known([*of.adapt(text, CONTEXT)])


@examples(200)
@given(
    text=st.from_regex(
        r"[02][0-9]{3}-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-6][0-9]:[0-6][0-9](\.[0-9]{3}|\.[0-9]{6}|\.[0-9])?"
        r" ?(Z|[+-][0-2][0-9]:?[0-9]{2})?",
        fullmatch=True,
    ),
    zone=st.sampled_from([None, "UTC", "Europe/Berlin"]),
)
def test_the_usual_form_of_an_instant_means_what_all_others_mean(text: str, zone: str | None):
    # Blanks around it are allowed, and make it another form than the usual one.
    assert _instant(text, zone) == _instant(f" {text} ", zone)


def _instant(text: str, zone: str | None) -> Any:
    try:
        return instant(text, LocalTimes(zone))
    except Refused as refused:
        return refused.reason


@examples(200)
@given(value=values, number=st.sampled_from(["", "1e400", "-0", "18446744073709551616", "9" * 400, '"\\ud800"', "NaN"]))
def test_json_means_the_same_to_both_parsers(value: Any, number: str):
    text = json.dumps([value, 0]).replace(", 0]", f", {number or 0}]")
    found = _parsed(lambda: parsed(text.encode()))
    assert found == _parsed(lambda: json.loads(text, parse_constant=_refused))


def _refused(name: str) -> float:
    raise ValueError(name)


def _parsed(parse: Callable[[], Any]) -> Any:
    try:
        return parse()
    except ValueError:
        return None


@examples(100)
@given(
    body=st.one_of(
        st.binary(),
        values.map(lambda value: json.dumps(value).encode()),
        st.sampled_from([path.read_bytes() for path in sorted(SAMPLES.iterdir())]).flatmap(
            lambda content: st.integers(0, len(content)).map(lambda end: content[:end])
        ),
    ),
    properties=st.one_of(
        st.none(),
        st.text(),
        st.dictionaries(
            st.sampled_from(["source", "binding", "mqtt-topic", "mqtt-retain", "received", "zone", "base"]),
            st.one_of(values, st.sampled_from([each.name for each in FORMATS])),
        ).map(json.dumps),
    ),
    annotations=st.one_of(
        st.none(),
        st.dictionaries(st.sampled_from(["iothub-connection-device-id", "iothub-enqueuedtime"]), values).map(
            json.dumps
        ),
    ),
)
def test_any_body_with_any_properties(body: bytes, properties: str | None, annotations: str | None):
    found = outcomes_of(body, properties, annotations, lambda *_: None)
    assert found is None or (len(found) > 0 and _all_known(found))
