"""The samples as events of a hub, and what EXPECTED.md says of each of them."""

import json
import re
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

SAMPLES = Path(__file__).parent / "samples"
BASE = "https://fhir.example.org/r4/"
BINDINGS = {
    "nightscout_entries.json": "ns-site-a",
    "nightscout_v3.json": "ns-site-a",
    "nightscout_devicestatus.json": "ns-site-a",
    "dexcom_clarity_en.csv": "clarity-upload-1",
    "dexcom_clarity_es.csv": "clarity-upload-2",
    "dexcom_share.json": "share:acct-7",
    "libreview_us.csv": "lv-upload-1",
    "libreview_de.csv": "lv-upload-2",
    "libreview_ambiguous.csv": "lv-upload-3",
    "carelink_780g.csv": "cl-upload-1",
    "carelink_legacy.csv": "cl-upload-2",
    "carelink_connect.json": "cl-upload-1",
    "tidepool_data.json": "tp-user-1",
    "apple_export.xml": "hk-upload-1",
    "health_auto_export.json": "hae-automation-1",
    "huawei_samples.json": "hw-openid-1",
}
ONE_EVENT_A_LINE = {"cloudevents.ndjson", "iothub_storage.ndjson", "medtech_payloads.ndjson", "records_envelope.ndjson"}


class Sent(NamedTuple):
    body: bytes | None
    properties: Mapping[str, Any] = MappingProxyType({})
    annotations: Mapping[str, Any] = MappingProxyType({})


def events_of(name: str) -> list[Sent]:
    """A sample as it comes from a hub."""
    content = (SAMPLES / name).read_bytes()
    match name:
        case "iothub_builtin.ndjson":
            return [_of_iot_hub(json.loads(line)) for line in content.splitlines()]
        case "mqtt_messages.ndjson":
            return [_of_mqtt(json.loads(line)) for line in content.splitlines()]
        case "bodies.ndjson":
            return [Sent(b64decode(json.loads(line)["body_base64"])) for line in content.splitlines()]
        case _ if name in ONE_EVENT_A_LINE:
            return [Sent(line) for line in content.splitlines()]
    properties = {"binding": BINDINGS[name]} if name in BINDINGS else {}
    return [Sent(content, properties | ({"base": BASE} if name.startswith("fhir") else {}))]


def _of_iot_hub(message: dict[str, Any]) -> Sent:
    return Sent(message["body"].encode(), message["application_properties"], message["annotations"])


def _of_mqtt(message: dict[str, Any]) -> Sent:
    payload = message["payload"].encode() if "payload" in message else b64decode(message["payload_base64"])
    properties = {
        "mqtt-topic": message["topic"],
        "mqtt-retain": str(message["retain"]).lower(),
        "mqtt-qos": message["qos"],
        "received": message["received"],
    }
    return Sent(payload, properties)


def sample_names() -> list[str]:
    """All samples, in the order of EXPECTED.md."""
    return re.findall(r"^## (\S+)$", (SAMPLES / "EXPECTED.md").read_text(), re.MULTILINE)


def expected_of(name: str) -> list[str]:
    """What each record of a sample becomes, in order; blank lines are no records."""
    text = (SAMPLES / "EXPECTED.md").read_text()
    section = text.split(f"## {name}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\S+) \| (.+?) \|$", section, re.MULTILINE)
    found = []
    for label, said in rows:
        if label in ("#", "---") or said == "S blank line":
            continue
        outcomes = [part.strip() for part in re.sub(r"\([^()]*\)", "", said).split(";") if part.strip()]
        found += [_normal(each) for each in outcomes * _times(label)]
    return found


def _times(label: str) -> int:
    """How many records a label such as 3-7 or 2.0-2.1 stands for."""
    if found := re.fullmatch(r"(?:\d+\.)?(\d+)-(?:\d+\.)?(\d+)", label):
        return int(found[2]) - int(found[1]) + 1
    return 1


def _normal(said: str) -> str:
    kind, _, rest = said.strip().partition(" ")
    if kind == "DUP":
        return "DUP"
    return f"S {rest.strip().replace(' ', '_')}" if kind == "S" else f"{kind} {rest}".strip()
