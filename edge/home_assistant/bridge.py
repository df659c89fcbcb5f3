"""The household's connection to Home Assistant's broker. A shell: it publishes, and hears two things that command nothing.

Said anew whenever the connection comes up and whenever Home Assistant says that it was born (`<prefix>/status`: online): availability,
the discovery payload, the state. The last will says `offline`. What an earlier configuration had and this one has not is removed: the
retained payload of before is read back once, and its vanished entities are said with their platform alone before the new payload.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from edge.config import EdgeConfig
from edge.cycle_record import CycleRecord
from edge.errors import ConfigurationError
from edge.home_assistant.discovery import Appearance
from protocols.bus import Bus, BusMessage
from protocols.errors import ProtocolError
from protocols.mqtt_bus import MqttBus, with_files_beside

log = logging.getLogger(__name__)

ONLINE, OFFLINE = b"online", b"offline"
GOODBYE_S = 5.0


class HomeAssistantBridge:
    """Shows the records of the control cycle. `bus` is that of the household's broker."""

    def __init__(self, config: EdgeConfig, bus: Bus) -> None:
        self._appearance = Appearance(config)
        self._period_s = config.home_assistant.period_s
        self._bus = bus
        self._sessions = 0
        self._due_s = float("-inf")
        self._born = False
        self.removed: dict[str, str] = {}

    async def start(self) -> None:
        """Begin to connect."""
        self._bus.subscribe(self._appearance.birth_topic)
        self._bus.subscribe(self._appearance.config_topic)
        await self._bus.start()

    async def stop(self) -> None:
        """Say goodbye; the entities stay, unavailable."""
        self._publish(self._appearance.availability_topic, OFFLINE, retain=True)
        await self._bus.stop()

    def cycle(self, record: CycleRecord) -> None:
        """One cycle has ended: say what is due."""
        self._hear()
        sessions = self._bus.sessions
        anew = sessions != self._sessions or self._born
        if anew:
            self._sessions, self._born = sessions, False
            self._introduce()
        if self._bus.connected and (anew or record.time_s >= self._due_s):
            self._due_s = record.time_s + self._period_s
            self._publish(self._appearance.state_topic, self._appearance.state(record), expiry_s=round(3.0 * self._period_s))

    def _hear(self) -> None:
        for message in self._bus.receive():
            if message.topic == self._appearance.birth_topic:
                self._born = self._born or message.payload == ONLINE
            elif message.topic == self._appearance.config_topic and message.retain:
                self._remove(self._appearance.gone(message.payload))

    def _remove(self, gone: dict[str, str]) -> None:
        if gone:
            log.info("Home Assistant is told that these are gone: %s", ", ".join(sorted(gone)))
            self.removed.update(gone)
            self._publish(self._appearance.config_topic, self._appearance.payload(gone), retain=True)
            self._publish(self._appearance.config_topic, self._appearance.payload(), retain=True)

    def _introduce(self) -> None:
        self._publish(self._appearance.config_topic, self._appearance.payload(), retain=True)
        self._publish(self._appearance.availability_topic, ONLINE, retain=True)

    def _publish(self, topic: str, payload: bytes, *, retain: bool = False, expiry_s: int | None = None) -> None:
        self._bus.publish(BusMessage(topic=topic, payload=payload, retain=retain, expiry_s=expiry_s))


def open_bridge(config: EdgeConfig, folder: Path) -> HomeAssistantBridge | None:
    """What the configuration asks for, None where it is off. Relative paths start at `folder`."""
    return HomeAssistantBridge(config, _bus(config, folder)) if config.home_assistant.enabled else None


async def forget_household(config: EdgeConfig, folder: Path) -> bool:
    """Take the household out of Home Assistant: empty retained messages. Returns whether the broker has acknowledged them."""
    appearance, bus = Appearance(config), _bus(config, folder, purpose="-forget")
    await bus.start()
    try:
        for topic in (appearance.config_topic, appearance.availability_topic):
            bus.publish(BusMessage(topic=topic, payload=b"", retain=True))
        return await bus.flush(GOODBYE_S)
    finally:
        await asyncio.shield(bus.stop())


def _bus(config: EdgeConfig, folder: Path, purpose: str = "") -> MqttBus:
    section, appearance = config.home_assistant, Appearance(config)
    will = BusMessage(topic=appearance.availability_topic, payload=OFFLINE, retain=True)
    try:
        settings = with_files_beside(section.broker, folder)
        return MqttBus(settings, client_id=f"{appearance.object_id}{purpose}", will=None if purpose else lambda: will)
    except ProtocolError as error:
        raise ConfigurationError(f"{error} - at $.home_assistant.broker") from error
