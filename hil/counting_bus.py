"""The shipped MQTT shell with notes for a bench: when it connected, and what became of the reports that went through it."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from protocols.bus import BusMessage
from protocols.messages import Telemetry
from protocols.mqtt_bus import MqttBus, MqttSettings


class CountingBus(MqttBus):
    """The shipped MQTT shell, with notes: when it tried to connect and was connected, and which reports were acknowledged to it."""

    def __init__(self, settings: MqttSettings, *, client_id: str, kept_until_handled: str) -> None:
        super().__init__(settings, client_id=client_id, kept_until_handled=kept_until_handled)
        self.attempts_s: list[float] = []
        self.connected_s: list[float] = []
        self.published: set[tuple[str, int]] = set()
        self.acknowledged: set[tuple[str, int]] = set()
        self._sent: dict[int, tuple[str, int]] = {}

    def back_s(self, since_s: float) -> float | None:
        """When it was connected first after `since_s`."""
        return next((at_s for at_s in self.connected_s if at_s >= since_s), None)

    def publish(self, message: BusMessage) -> None:
        if message.topic.endswith("/telemetry"):
            self.published.add(report_key(message))
        super().publish(message)

    async def _connect(self) -> bool:
        self.attempts_s.append(time.monotonic())
        return await super()._connect()

    def _on_connect(self, *arguments: Any) -> None:
        super()._on_connect(*arguments)
        if self.connected:
            self.connected_s.append(time.monotonic())

    def _send(self, message: BusMessage) -> None:
        before = set(self._unacknowledged)
        super()._send(message)
        if message.topic.endswith("/telemetry"):
            self._sent.update(dict.fromkeys(self._unacknowledged - before, report_key(message)))

    def _on_publish(self, client: Any, userdata: Any, mid: int, reason: Any, properties: Any) -> None:
        super()._on_publish(client, userdata, mid, reason, properties)
        key = self._sent.pop(mid, None)
        if key is not None and not reason.is_failure:
            self.acknowledged.add(key)


def report_key(message: BusMessage) -> tuple[str, int]:
    """Who made a report, and its sequence number."""
    telemetry = msgspec.json.decode(message.payload, type=Telemetry)
    return telemetry.sender, telemetry.sequence
