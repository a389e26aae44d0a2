"""The device domain in Dagster: its stream and its gold table."""

from assets.adapters.adaptation import adaptation
from assets.devices import gold, rules, silver
from assets.devices.contract import STREAM, DeviceAlerts, DevicePayload, DeviceReadings, ForeignDevice
from assets.devices.slots import device_slots
from assets.devices.tables import DEVICE_HEALTH, DeviceSlots
from assets.gold import DailyGold
from assets.reference.enrichments import OF_DEVICE
from assets.slots import Slots
from assets.stream.contract import Contract

CONTRACT = Contract(
    stream=STREAM,
    payload=DevicePayload,
    silver=DeviceReadings,
    alerts=DeviceAlerts,
    keys=("device_id",),
    entity="device_id",
    values=("battery_level", "firmware_version", "connectivity_status", "error_codes"),
    clean=silver.clean,
    adaptation=adaptation(STREAM, ForeignDevice),
    alert_payload=rules.alert_payload,
    rules=rules.RULES,
    enrich=(OF_DEVICE,),
    alarms=rules.ALARMS,
    phi=False,
)

SLOTS = Slots(CONTRACT.tables.silver, DeviceSlots, device_slots, entity="device_id")
GOLD = (DailyGold(DEVICE_HEALTH, SLOTS, lambda slots, _: gold.device_health_of(slots)),)
