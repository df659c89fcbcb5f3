"""Runs in a Python that has Home Assistant: puts a discovery payload (standard input) through its own schemas, as its MQTT integration
does, and prints each component with what Home Assistant understood of it. Any complaint is an exception."""

import asyncio
import json
import sys

from homeassistant.components.mqtt import binary_sensor, sensor
from homeassistant.components.mqtt.discovery import _merge_common_device_options, _replace_all_abbreviations
from homeassistant.components.mqtt.schemas import DEVICE_DISCOVERY_SCHEMA
from homeassistant.const import __version__
from homeassistant.core import HomeAssistant

SCHEMAS = {"sensor": sensor.DISCOVERY_SCHEMA, "binary_sensor": binary_sensor.DISCOVERY_SCHEMA}

async def main() -> None:
    """Templates are only checked inside Home Assistant's own loop."""
    hass = HomeAssistant("/tmp")
    payload = json.load(sys.stdin)
    _replace_all_abbreviations(payload)
    DEVICE_DISCOVERY_SCHEMA(payload)
    understood = {}
    for name, component in payload["components"].items():
        platform = component.pop("platform")
        if not component:
            understood[name] = "removed"
            continue
        component.update(device=payload["device"], origin=payload["origin"])
        _merge_common_device_options(component, payload)
        checked = SCHEMAS[platform](component)
        unknown = {key for key in component if key not in checked}
        assert not unknown, f"{name}: Home Assistant does not know {sorted(unknown)}"
        understood[name] = f"{platform} {checked.get('device_class')} {checked.get('unit_of_measurement')}"
    print(json.dumps({"version": __version__, "understood": understood}))
    await hass.async_stop(force=True)


asyncio.run(main())
