"""Whether and where the household appears in Home Assistant. Off unless configured."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from protocols.mqtt_bus import MqttSettings


class HomeAssistantSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`broker` is the broker that Home Assistant uses, in the home: the community's own lets nobody write outside its topics.
    `discovery_prefix` is Home Assistant's, `period_s` how often the state is said; entities become unavailable after three periods."""

    enabled: bool = False
    broker: MqttSettings = MqttSettings()
    discovery_prefix: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}(/[A-Za-z0-9_-]{1,64}){0,3}$")] = "homeassistant"
    period_s: Annotated[float, Meta(ge=1.0, le=600.0)] = 10.0
