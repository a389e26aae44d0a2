"""What apps post: who may, what is answered, and that each reading comes in once, whatever happens to the hub."""

import gzip
import http.client
import ipaddress
import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from hashlib import sha1
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from assets.devices.assets import CONTRACT as DEVICES
from assets.glucose.assets import CONTRACT as GLUCOSE
from assets.reference.files import rows_of
from assets.reference.tables import IDENTITY
from assets.stream.contract import Contract
from assets.stream.session import SessionLimits
from assets.vitals.assets import CONTRACT as VITALS
from orchestration import received
from orchestration.receiving import FREE_GUESSES, OF_ONE_TOKEN, POSTS_A_MINUTE, ReceiveError, ReceivingServer, server
from resources.lake import Lake
from resources.settings import Settings
from resources.sources import namespace_of
from resources.tokens import Tokens
from tests.adapters.samples_as_events import SAMPLES
from tests.adapters.world import load_identity
from tests.emulator.hub import RunningHub
from tests.orchestration.site import wait_until
from tests.stream.scenarios import run_session
from tests.stream.tables import rows

pytestmark = pytest.mark.service

HUBS = ("glucose_readings:2", "patient-data:2", "device_readings:2")
IDENTITIES = """system,kind,foreign_id,pulselake_id,patient_of_device,zone
nightscout,patient,mine,7,,
nightscout,device,phone,1007,,
nightscout,device,xdrip,1010,,
nightscout,device,pump:p9,1011,,
hae,patient,mine,7,,
hae,device,mine,1008,,
hae,device,Watch,1009,,
fhir,patient,mine,7,,
fhir,patient,https://fhir.example.org/r4/Patient/other,8,,
fhir,device,mine,1007,,
pulselake,patient,mine,7,,
"""
AT = datetime(2026, 11, 20, 8, tzinfo=UTC)
NOW = AT + timedelta(hours=1)


class Site:
    """A server with its hub, its tokens and a lake."""

    def __init__(self, folder: Path, hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PULSELAKE_HOME", str(folder / "home"))
        monkeypatch.setenv("EVENTHUB_CONNECTION_STRING", hub.connection_string)
        self.hub, self.tokens = hub, Tokens(self.settings.tokens_file)
        self.lake = Lake(str(folder / "home" / "lake"))
        load_identity(self.lake, rows_of(IDENTITY, IDENTITIES, date(2026, 6, 1)))
        self.token = self.tokens.create("phone", "mine", NOW)
        self.seconds = 0.0

    @property
    def settings(self) -> Settings:
        return Settings()

    @contextmanager
    def serving(self, **options: Any) -> Iterator[str]:
        with running(self.settings, clock=lambda: NOW, seconds=lambda: self.seconds, **options) as serving:
            yield f"http://127.0.0.1:{serving.port}"

    def silver(self, contract: Contract = GLUCOSE) -> list[tuple[Any, ...]]:
        """What a session makes of what the hub has, in the order of its time."""
        source = namespace_of(self.settings).source(self.settings.hub(contract.stream))
        limits = SessionLimits(until_caught_up=True)
        run_session(self.lake, source, contract=contract, limits=limits, clock=lambda: datetime.now(UTC))
        values = {
            GLUCOSE.stream: ("patient_id", "device_id", "glucose_mg_dl"),
            VITALS.stream: ("patient_id", "device_id", "heart_rate_bpm", "spo2_percent"),
            DEVICES.stream: ("device_id", "battery_level"),
        }[contract.stream]
        return rows(self.lake, "silver", contract).sort("measured_at").select(values).rows()

    def quarantine(self) -> dict[str, int]:
        return dict(rows(self.lake, "quarantine")["reason"].value_counts().iter_rows())


@contextmanager
def running(settings: Settings, **options: Any) -> Iterator[ReceivingServer]:
    with server(settings, 0, **options) as serving:
        thread = threading.Thread(target=serving.run, daemon=True)
        thread.start()
        while not serving.started:
            assert thread.is_alive()
            time.sleep(0.01)
        try:
            yield serving
        finally:
            serving.should_exit = True
            thread.join(300)
            assert not thread.is_alive()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    data = tmp_path / "hub"
    data.mkdir()
    with RunningHub(HUBS, data) as hub:
        yield Site(tmp_path, hub, monkeypatch)


def entries(count: int, first: int = 0) -> list[dict[str, Any]]:
    """Entries of a Nightscout uploader, a minute apart."""
    start = int(AT.timestamp() * 1000)
    return [
        {"type": "sgv", "sgv": 100 + number % 50, "date": start + 60_000 * number, "device": "phone"}
        for number in range(first, first + count)
    ]


def metrics(*points: tuple[str, int, float], source: str = "Watch") -> dict[str, Any]:
    """A post of Health Auto Export: name, minute and value of each point."""
    units = {"heart_rate": "count/min", "blood_oxygen_saturation": "%", "blood_glucose": "mg/dL", "step_count": "count"}
    by_name: dict[str, list[dict[str, Any]]] = {}
    for name, minute, value in points:
        at = (AT + timedelta(minutes=minute)).strftime("%Y-%m-%d %H:%M:%S +0000")
        by_name.setdefault(name, []).append({"date": at, "qty": value, "source": source})
    return {"data": {"metrics": [{"name": name, "units": units[name], "data": each} for name, each in by_name.items()]}}


def post(url: str, path: str, body: Any, token: str | None, **more: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    headers |= {"Content-Type": "application/json"} | more.pop("headers", {})
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.post(url + path, content=content, headers=headers, timeout=300, **more)


def test_each_kind_of_app_posts_to_its_address_and_its_readings_come_in(site: Site):
    with site.serving() as url:
        secret = {"api-secret": sha1(site.token.encode()).hexdigest()}
        assert httpx.get(f"{url}/api/v1/experiments/test", headers=secret).status_code == 200
        done = post(url, "/api/v1/entries", entries(3), None, headers=secret)
        assert (done.status_code, len({each["_id"] for each in done.json()})) == (200, 3)
        done = post(
            url,
            "/health-auto-export",
            metrics(("heart_rate", 0, 71), ("blood_oxygen_saturation", 0, 97), ("step_count", 1, 50)),
            site.token,
        )
        assert (done.status_code, done.json()) == (202, {"readings": 1, "skipped": 1})
        own = {"device_id": 1007, "glucose_level": 123, "timestamp": AT.isoformat()}
        assert post(url, "/readings/glucose", own, site.token).status_code == 202
        assert post(url, "/readings/glucose", [own | {"patient_id": 8}], site.token).status_code == 202
        battery = {"device": "phone", "created_at": AT.isoformat(), "uploader": {"battery": 55}}
        assert post(url, "/api/v1/devicestatus", battery, None, headers=secret).status_code == 200
        # Only steps: nothing for a stream, and no error.
        assert post(url, "/health-auto-export", metrics(("step_count", 1, 50)), site.token).json() == {"skipped": 1}
        assert post(url, "/api/v1/entries", [], None, headers=secret).json() == []
    assert site.silver() == [(7, 1007, 100.0), (7, 1007, 101.0), (7, 1007, 102.0)]
    assert site.quarantine() == {"identity_mismatch": 1, "conflicting_duplicate": 1}
    assert site.silver(VITALS) == [(7, 1009, 71, 97.0)]
    assert site.silver(DEVICES) == [(1007, 55)]


def test_what_nightscout_uploaders_send_besides_is_taken_and_what_is_a_reading_in_it_comes_in(site: Site):
    secret = {"api-secret": sha1(site.token.encode()).hexdigest(), "Content-Type": "application/json"}
    carbs = {"eventType": "Meal Bolus", "carbs": 30, "insulin": 2, "created_at": AT.isoformat(), "enteredBy": "phone"}
    # What xDrip+ sends for a note that has no kind.
    note = {"notes": "lunch", "uuid": "5f", "_id": "5f" * 12, "timestamp": 1_795_424_400_000, "enteredBy": "xdrip"}
    profile = {"defaultProfile": "Default", "store": {}, "startDate": AT.isoformat(), "units": "mg/dl"}
    loop = {
        "device": "phone",
        "created_at": AT.isoformat(),
        "uploader": {"battery": 55},
        "pump": {"pumpID": "p9", "clock": AT.isoformat(), "battery": {"percent": 70}},
    }
    with site.serving() as url, httpx.Client(base_url=url, headers=secret) as uploader:

        def ids(method: str, path: str, body: Any) -> int:
            done = uploader.request(method, f"/api/v1/{path}", content=json.dumps(body).encode())
            assert done.status_code == 200, (path, done.text)
            return len({each["_id"] for each in done.json()})

        assert ids("POST", "treatments", [carbs, note]) == 2
        assert ids("PUT", "treatments", note) == 1
        assert ids("POST", "treatments.json", [carbs, *entries(1)]) == 2
        assert ids("POST", "profile", [profile]) == 1
        assert ids("PUT", "profile", profile) == 1
        # An uploader compares the numbers, and would send all of it again.
        assert ids("POST", "devicestatus", [loop]) == 1
        assert ids("POST", "devicestatus", {"device": "xdrip", "uploader": {"battery": 40}}) == 1
        assert ids("POST", "devicestatus", [{"device": "phone", "isCharging": True}]) == 1
        assert uploader.get("/api/v1/treatments.json", params={"find[uuid]": "5f"}).json() == []
        assert uploader.delete(f"/api/v1/treatments/{'5f' * 12}").json() == {}
        for path in ("treatments", "treatments.json"):
            assert httpx.get(f"{url}/api/v1/{path}").status_code == 401
        assert httpx.delete(f"{url}/api/v1/treatments/5f").status_code == 401
    assert site.silver() == [(7, 1007, 100.0)]
    assert sorted(site.silver(DEVICES)) == [(1007, 55), (1010, 40), (1011, 70)]


def test_the_patient_of_the_token_counts_whoever_the_body_names(site: Site):
    bundle = json.loads((SAMPLES / "fhir_bundle.json").read_text())
    observation: dict[str, Any] = bundle["entry"][1]["resource"]

    def of(patient: str, minute: int) -> dict[str, Any]:
        at = (AT + timedelta(minutes=minute)).isoformat()
        return observation | {"subject": {"reference": patient}, "device": None, "effectiveDateTime": at}

    known, unknown = "https://fhir.example.org/r4/Patient/other", "Patient/of-the-phone"
    posted = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": of(known, 0)}]}
    with site.serving() as url:
        assert post(url, "/fhir", posted, site.token).status_code == 202
        lines = "\n".join(json.dumps(of(unknown, minute)) for minute in (1, 2)).encode()
        kind = {"Content-Type": "application/fhir+ndjson"}
        assert post(url, "/fhir", lines, site.token, headers=kind).json() == {"readings": 2}
    assert site.silver() == [(7, 1007, 120.0), (7, 1007, 120.0)]
    assert site.quarantine() == {"identity_mismatch": 1}


def test_a_hub_that_is_killed_is_told_and_what_the_phone_sends_again_comes_in_once(site: Site):
    with site.serving() as url:
        assert post(url, "/api/v1/entries", entries(100), site.token).status_code == 200
        site.hub.kill()
        done = post(url, "/api/v1/entries", entries(100, first=50), site.token)
        assert (done.status_code, done.headers["Retry-After"]) == (503, "30")
        site.hub.start()
        retried = [post(url, "/api/v1/entries", entries(100, first=50), site.token).status_code]
        for _ in range(60):
            if retried[-1] == 200:
                break
            time.sleep(0.5)
            retried.append(post(url, "/api/v1/entries", entries(100, first=50), site.token).status_code)
        assert retried[-1] == 200
    assert site.silver() == [(7, 1007, 100.0 + number % 50) for number in range(150)]
    assert site.quarantine() == {}


def test_a_large_body_becomes_parts_in_which_signs_of_one_instant_stay_together(site: Site):
    points = [
        (name, minute, value)
        for name, value in (("heart_rate", 71.0), ("blood_oxygen_saturation", 97.0))
        for minute in range(-2880, 0)
    ]
    packed = gzip.compress(json.dumps(metrics(*points)).encode())
    with site.serving() as url:
        done = post(url, "/health-auto-export", packed, site.token, headers={"Content-Encoding": "gzip"})
        assert (done.status_code, done.json()) == (202, {"readings": 2880})
        tails = namespace_of(site.settings).source("patient-data").state().tails
        assert sum(tail.last + 1 for tail in tails.values()) == 58
        assert post(url, "/health-auto-export", metrics(*points), site.token).status_code == 202
    assert site.silver(VITALS) == [(7, 1009, 71, 97.0)] * 2880


def test_a_record_that_no_event_can_hold_costs_only_itself(site: Site):
    large = [
        entry | {"notes": "x" * (3_000 if number != 7 else 1_100_000)} for number, entry in enumerate(entries(300))
    ]
    status = [{"created_at": AT.isoformat(), "device": "phone", "uploader": {"battery": 50}}]
    with site.serving() as url:
        done = post(url, "/api/v1/entries", [*large, *status], site.token)
        assert done.status_code == 413
        assert "1 records are larger than an event of the hub can be; all others were taken." in done.json()["error"]
        tails = namespace_of(site.settings).source("device_readings").state().tails
        assert sum(tail.last + 1 for tail in tails.values()) == 1
    assert site.silver() == [(7, 1007, 100.0 + number % 50) for number in range(300) if number != 7]


BOMB = gzip.compress(b"[" + b" " * (received.MAX_BYTES + 1) + b"]")


NOT_TAKEN: list[tuple[str, Any, dict[str, str], int, str]] = [
    ("/fhir", b"{}", {"Content-Type": "text/csv"}, 415, "has to be JSON"),
    ("/fhir", b"{}", {"Content-Encoding": "br"}, 415, "gzip only"),
    ("/fhir", b" " * (received.MAX_BYTES + 1), {}, 413, "more than 8 MiB"),
    ("/fhir", BOMB, {"Content-Encoding": "gzip"}, 413, "more than 8 MiB"),
    ("/fhir", b"{}", {"Content-Encoding": "gzip"}, 400, "is no gzip"),
    ("/fhir", gzip.compress(b"[]")[:-9], {"Content-Encoding": "gzip"}, 400, "no complete gzip"),
    ("/fhir", b"secret words", {}, 400, "no JSON of the kind fhir"),
    ("/health-auto-export", [{"sgv": 100, "date": 1}], {}, 400, "no JSON of the kind health-auto-export"),
    ("/readings/glucose", b"5", {}, 400, "no JSON of the kind pulselake"),
    ("/readings/adverse_events", {}, {}, 404, ""),
    ("/api/v1/activity", [], {}, 404, ""),
    ("/api/v1/treatments", b"no json", {}, 400, "no JSON of the kind nightscout"),
    ("/readings/glucose", {"note": "x" * 1_100_000}, {}, 413, "larger than an event"),
]


def test_what_is_not_taken_is_told_and_nothing_of_it_is_quoted(site: Site):
    with site.serving() as url:
        for path, body, headers, status, said in NOT_TAKEN:
            done = post(url, path, body, site.token, headers=headers)
            assert (path, done.status_code, said in done.text) == (path, status, True)
            assert "secret words" not in done.text
    tails = namespace_of(site.settings).source("glucose_readings").state().tails
    assert sum(tail.last + 1 for tail in tails.values()) == 0


NASTY = (
    b"[" * 100_000,
    b'{"a":' * 900 + b"1" + b"}" * 900,
    b'{"data": {"metrics": [5, {"name": "\\ud800", "data": [{"date": "\\ud800", "qty": 1e999, "source": 5}]}]}}',
    b'[{"sgv": ' + b"9" * 5000 + b', "date": 1, "device": "\\ud83d"}]',
    b'{"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "Observation"}}, 5, null]}',
    b'{"resourceType": "Observation"}\n\n{"resourceType": 5}\nx',
    b"\xff\xfe{}",
    b"",
    b"null",
)


def test_no_body_breaks_the_server(site: Site, caplog):
    with site.serving() as url:
        for path in ("/health-auto-export", "/fhir", "/api/v1/entries", "/readings/glucose"):
            for body in NASTY:
                assert (path, body[:40], post(url, path, body, site.token).status_code // 100) in (
                    (path, body[:40], 2),
                    (path, body[:40], 4),
                )
    assert not [record for record in caplog.records if record.exc_info]
    # What is JSON of the kind is in bronze, and refused record by record.
    assert site.silver() == []
    assert "not_json" in site.quarantine()


def test_posts_of_one_token_at_a_time_are_few(site: Site):
    other = site.tokens.create("tablet", "mine", NOW)
    with site.serving(body_s=2) as url:
        head = f"POST /fhir HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {site.token}\r\n"
        start = f"{head}Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{{".encode()
        slow = [socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 20) for _ in range(OF_ONE_TOKEN)]
        for each in slow:
            each.sendall(start)
        wait_until(lambda: post(url, "/fhir", [], site.token).status_code == 429, "four posts at a time")
        assert post(url, "/fhir", [], other).status_code == 202
        for each in slow:
            each.close()
        wait_until(lambda: post(url, "/fhir", [], site.token).status_code == 202, "the end of the four")


def test_a_body_without_a_length_is_cut_at_the_limit(site: Site):
    def endless() -> Iterator[bytes]:
        for _ in range(received.MAX_BYTES // 65_536 + 100):
            yield b" " * 65_536

    with site.serving() as url:
        headers = {"Authorization": f"Bearer {site.token}", "Content-Type": "application/json"}
        # The server may end the connection before all was sent.
        with suppress(httpx.WriteError):
            assert httpx.post(f"{url}/fhir", content=endless(), headers=headers, timeout=300).status_code == 413
        assert post(url, "/api/v1/entries", entries(1), site.token).status_code == 200


def test_tokens_that_are_wrong_missing_or_revoked_are_refused(site: Site):
    other = site.tokens.create("tablet", "mine", NOW)
    with site.serving() as url:
        for token in (None, "", "plk_wrong", sha1(site.token.encode()).hexdigest()):
            assert post(url, "/api/v1/entries", entries(1), token).status_code == 401
        assert post(url, "/api/v1/entries", entries(1), None, headers={"api-secret": site.token}).status_code == 401
        assert post(url, "/api/v1/entries", entries(1), other).status_code == 200
        # Another process revokes it.
        Tokens(site.settings.tokens_file).revoke("tablet", NOW)
        assert post(url, "/api/v1/entries", entries(1), other).status_code == 401
        assert post(url, "/api/v1/entries", entries(1), site.token).status_code == 200
    assert site.token not in site.settings.tokens_file.read_text()


def test_guesses_of_an_address_wait_for_longer_and_longer_and_a_right_token_never_does(site: Site):
    with site.serving() as url:

        def guess() -> tuple[int, str | None]:
            done = post(url, "/api/v1/entries", entries(1), "plk_wrong")
            return done.status_code, done.headers.get("Retry-After")

        assert [guess() for _ in range(FREE_GUESSES)] == [(401, None)] * FREE_GUESSES
        waits = []
        for _ in range(4):
            status, wait = guess()
            assert (status, wait is not None) == (429, True)
            # Another phone behind the same router.
            assert post(url, "/api/v1/entries", entries(1), site.token).status_code == 200
            waits.append(int(wait or 0))
            site.seconds += waits[-1]
            assert guess() == (401, None)
        assert waits == [1, 2, 4, 8]
        # Who posts from elsewhere is not held up.
        elsewhere = httpx.HTTPTransport(local_address="127.0.0.2")
        with httpx.Client(transport=elsewhere) as client:
            headers = {"Authorization": f"Bearer {site.token}"}
            assert client.post(f"{url}/api/v1/entries", json=entries(1), headers=headers).status_code == 200
        site.seconds += 3600
        assert post(url, "/api/v1/entries", entries(1), site.token).status_code == 200


def test_a_proxy_on_this_machine_says_whose_guesses_they_are(site: Site):
    with site.serving() as url:
        for _ in range(FREE_GUESSES + 1):
            done = post(url, "/api/v1/entries", entries(1), "plk_wrong", headers={"X-Forwarded-For": "192.0.2.1"})
        assert done.status_code == 429
        assert post(url, "/api/v1/entries", entries(1), site.token).status_code == 200


def test_a_token_that_posts_without_an_end_is_slowed_down(site: Site):
    other = site.tokens.create("tablet", "mine", NOW)
    with site.serving() as url, httpx.Client() as client:
        headers = {"Authorization": f"Bearer {site.token}", "Content-Type": "application/json"}
        codes = [client.post(f"{url}/fhir", content=b"[]", headers=headers).status_code for _ in range(POSTS_A_MINUTE)]
        assert set(codes) == {202}
        done = client.post(f"{url}/fhir", content=b"[]", headers=headers)
        assert (done.status_code, done.headers["Retry-After"]) == (429, "1")
        assert post(url, "/fhir", [], other).status_code == 202
        site.seconds += 1
        assert post(url, "/fhir", [], site.token).status_code == 202


def test_slow_clients_are_ended_and_hold_up_nobody(site: Site):
    with site.serving(body_s=0.5, head_s=0.5) as url:
        port = int(url.rpartition(":")[2])
        head = f"POST /fhir HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {site.token}\r\n"
        starts = [b"", b"POST /fhir", f"{head}Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{{".encode()]
        slow = [socket.create_connection(("127.0.0.1", port), 20) for _ in range(3 * (OF_ONE_TOKEN - 1))]
        for number, each in enumerate(slow):
            each.sendall(starts[number % 3])
        assert post(url, "/api/v1/entries", entries(1), site.token).status_code == 200
        answers = [each.recv(100) for each in slow]
        for each in slow:
            each.close()
        assert {answer[:12] for answer in answers} == {b"", b"HTTP/1.1 408"}
        # One connection for several posts, with pauses that are short enough.
        kept = http.client.HTTPConnection("127.0.0.1", port)
        for _ in range(3):
            kept.request(
                "POST", "/fhir", b"[]", {"Authorization": f"Bearer {site.token}", "Content-Type": "application/json"}
            )
            with kept.getresponse() as answer:
                assert (answer.status, answer.read()) == (202, b"{}")
        kept.close()


def test_health_data_and_tokens_are_in_no_log(site: Site, caplog: pytest.LogCaptureFixture, capfd):
    caplog.set_level(0)
    # Another test may have set the level of the project's own loggers.
    caplog.set_level(logging.DEBUG, "orchestration")
    with site.serving() as url:
        post(
            url,
            "/api/v1/entries",
            [{"type": "sgv", "sgv": 271.8281, "date": 1795424400000, "device": "phone-of-ada"}],
            site.token,
        )
        post(url, "/fhir", b'{"resourceType": "Patient", "name": "ada-byron"', site.token)
        post(url, "/fhir", b"{}", "plk_wrong")
    out, err = capfd.readouterr()
    records = [record for record in caplog.records if record.name != "httpx"]
    told = (
        "\n".join(f"{each.getMessage()} {getattr(each, 'pulselake', '')} {each.exc_text}" for each in records)
        + out
        + err
    )
    assert "received" in told
    for each in ("271.8281", "phone-of-ada", "ada-byron", site.token, "plk_wrong", "mine"):
        assert each not in told


def test_a_port_that_is_taken_and_an_address_without_a_certificate_are_told(site: Site, monkeypatch, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(ReceiveError, match="PULSELAKE_RECEIVE_PORT"), server(site.settings, taken.getsockname()[1]):
            pass
    monkeypatch.setenv("PULSELAKE_RECEIVE_HOST", "0.0.0.0")
    with pytest.raises(ValueError, match="PULSELAKE_RECEIVE_CERTIFICATE"):
        Settings()
    for name in ("CERTIFICATE", "KEY"):
        monkeypatch.setenv(f"PULSELAKE_RECEIVE_{name}", str(tmp_path / "none.pem"))
    monkeypatch.setenv("PULSELAKE_RECEIVE_HOST", "127.0.0.1")
    with pytest.raises(ReceiveError, match="nothing is received"), server(Settings(), 0):
        pass


def test_with_a_certificate_it_is_https(site: Site, monkeypatch, tmp_path):
    certificate, key = certificate_in(tmp_path)
    monkeypatch.setenv("PULSELAKE_RECEIVE_CERTIFICATE", str(certificate))
    monkeypatch.setenv("PULSELAKE_RECEIVE_KEY", str(key))
    with running(site.settings) as serving:
        trusted = ssl.create_default_context(cafile=str(certificate))
        with httpx.Client(verify=trusted) as client:
            headers = {"Authorization": f"Bearer {site.token}"}
            done = client.post(f"https://127.0.0.1:{serving.port}/api/v1/entries", json=entries(2), headers=headers)
    assert done.status_code == 200
    assert len(site.silver()) == 2


def certificate_in(folder: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pulselake test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    unlocked = serialization.NoEncryption()
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, unlocked))
    return files
