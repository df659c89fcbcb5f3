"""What Home Assistant is told of a household: one device, its entities, and their state. Pure.

Source: Home Assistant, integration MQTT, "Device discovery payload" (2024.12 and later): topic `<prefix>/device/<object id>/config`,
retained; the root needs `device` and `origin`; `components` maps an id to an entity with `platform` and `unique_id`; a component that
carries its platform alone is removed; an empty payload removes the device. Full names are sent, not their abbreviations.

Home Assistant shows generation as a positive number, so PV does here. What is not known is null, which its templates turn into "None":
unknown, never zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from edge.config import EdgeConfig
from edge.correspondence import SOFTWARE
from edge.cycle_record import CycleRecord
from edge.observation.catalogue import SOURCES, STATES
from edge.observation.labels import device_labels
from edge.values import DeviceKind
from protocols.messages import SafetyState

ROOT: Final = "commonwatt/home"
PERIODS_UNTIL_UNAVAILABLE: Final = 3
Component = dict[str, Any]


class Appearance:
    """The topics and payloads of one household. `components` are by the id that they keep for ever."""

    def __init__(self, config: EdgeConfig) -> None:
        self._config = config
        self._labels = device_labels([(device.name, device.kind) for device in config.devices])
        identity, prefix = config.identity, config.home_assistant.discovery_prefix
        self.object_id = f"commonwatt_{identity.community}_{identity.node}"
        self.config_topic = f"{prefix}/device/{self.object_id}/config"
        self.birth_topic = f"{prefix}/status"
        self.state_topic = f"{ROOT}/{identity.community}/{identity.node}/state"
        self.availability_topic = f"{ROOT}/{identity.community}/{identity.node}/availability"
        self.components = {name: self._completed(name, component) for name, component in self._entities()}

    def payload(self, gone: Mapping[str, str] | None = None) -> bytes:
        """The retained discovery payload. `gone`: ids of components that an earlier one had, with their platform."""
        identity = self._config.identity
        removed = {name: {"platform": platform} for name, platform in (gone or {}).items()}
        return msgspec.json.encode(
            {
                "device": {
                    "identifiers": [self.object_id],
                    "name": f"Commonwatt {identity.node}",
                    "manufacturer": "Commonwatt",
                    "model": "household controller",
                    "sw_version": SOFTWARE,
                },
                "origin": {"name": "commonwatt-edge", "sw_version": SOFTWARE.split()[-1]},
                "state_topic": self.state_topic,
                "availability_topic": self.availability_topic,
                "components": {**self.components, **removed},
            }
        )

    def gone(self, earlier: bytes) -> dict[str, str]:
        """Components of an earlier payload that this one does not have any more; nothing for what is not such a payload."""
        try:
            known = msgspec.json.decode(earlier, type=_Earlier).components
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return {}
        return {name: entity.platform for name, entity in known.items() if name not in self.components}

    def state(self, record: CycleRecord) -> bytes:
        """The state of every entity after one cycle."""
        limits = record.limits
        state: dict[str, Any] = {
            "net_import": record.net_import_w,
            "import_limit": None if limits.import_ is None else limits.import_.limit_w,
            "export_limit": None if limits.export is None else limits.export.limit_w,
            "import_limit_source": None if limits.import_ is None else limits.import_.source,
            "export_limit_source": None if limits.export is None else limits.export.source,
            "safety_state": record.state.value,
            "problem": _switch(record.state is SafetyState.FAILSAFE or record.failed or _breach_w(record) > 0.0),
            "coordinator": _switch("islanded" not in record.conditions),
        }
        readings = {reading.name: reading for reading in record.readings}
        for name, (label, kind) in self._labels.items():
            reading = readings.get(name)
            if kind is DeviceKind.METER:
                state["imported"] = None if reading is None else reading.energy_import_wh
                state["exported"] = None if reading is None else reading.energy_export_wh
                continue
            sign = -1.0 if kind is DeviceKind.PV else 1.0
            state[f"{label}_power"] = None if reading is None else sign * reading.power_w + 0.0
            if kind is DeviceKind.BATTERY:
                soc_frac = None if reading is None else reading.soc_frac
                state[f"{label}_soc"] = None if soc_frac is None else round(100.0 * soc_frac, 1)
        return msgspec.json.encode(state)

    def _entities(self) -> Iterator[tuple[str, Component]]:
        yield "net_import", _power("Net import")
        yield "import_limit", _power("Import limit")
        yield "export_limit", _power("Export limit")
        yield "imported", _energy("Imported energy")
        yield "exported", _energy("Exported energy")
        for label, kind in self._labels.values():
            words = label.replace("_", " ").replace("ev charger", "EV charger").replace("pv", "PV")
            if kind is DeviceKind.METER:
                continue
            yield f"{label}_power", _power(f"{words[0].upper()}{words[1:]} {'generation' if kind is DeviceKind.PV else 'power'}")
            if kind is DeviceKind.BATTERY:
                yield f"{label}_soc", _charge(f"{words[0].upper()}{words[1:]} state of charge")
        yield "safety_state", _choice("Safety state", [state.value for state in STATES])
        yield "import_limit_source", _choice("Import limit set by", list(SOURCES))
        yield "export_limit_source", _choice("Export limit set by", list(SOURCES))
        yield "problem", {"platform": "binary_sensor", "name": "Problem", "device_class": "problem"}
        yield (
            "coordinator",
            {"platform": "binary_sensor", "name": "Coordinator", "device_class": "connectivity", "entity_category": "diagnostic"},
        )

    def _completed(self, name: str, component: Component) -> Component:
        expire_s = round(PERIODS_UNTIL_UNAVAILABLE * self._config.home_assistant.period_s)
        return {
            **component,
            "unique_id": f"{self.object_id}_{name}",
            "value_template": f"{{{{ value_json.{name} }}}}",
            "expire_after": max(expire_s, 1),
        }


class _Entity(msgspec.Struct, frozen=True, kw_only=True):
    platform: str


class _Earlier(msgspec.Struct, frozen=True, kw_only=True):
    components: dict[str, _Entity]


def _power(name: str) -> Component:
    return {
        "platform": "sensor", "name": name, "device_class": "power", "state_class": "measurement", "unit_of_measurement": "W",
        "suggested_display_precision": 0,
    }  # fmt: skip


def _energy(name: str) -> Component:
    return {
        "platform": "sensor", "name": name, "device_class": "energy", "state_class": "total_increasing", "unit_of_measurement": "Wh",
        "suggested_display_precision": 0,
    }  # fmt: skip


def _charge(name: str) -> Component:
    return {"platform": "sensor", "name": name, "device_class": "battery", "state_class": "measurement", "unit_of_measurement": "%"}


def _choice(name: str, options: list[str]) -> Component:
    return {"platform": "sensor", "name": name, "device_class": "enum", "options": options, "entity_category": "diagnostic"}


def _switch(holds: bool) -> str:
    return "ON" if holds else "OFF"


def _breach_w(record: CycleRecord) -> float:
    return max(record.export_breach_w, record.import_breach_w)
