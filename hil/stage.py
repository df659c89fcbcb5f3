"""Where a run plays: in memory, or on real sockets with a real broker. Both have the same face, and the run does not know which.

`MemoryStage`: an in-memory broker and register access without sockets; nothing ever waits, so a run is a function of its inputs.
`SocketStage`: one Modbus/TCP endpoint for each device, one Mosquitto child, one MQTT connection for each edge, all on the loopback
interface. Its input and output timeouts stay on wall time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

from edge.devices.registry import ClientFactory, DeviceConfig, ModbusSessions
from edge.devices.transport import TransportOptions
from hil.broker import Broker
from hil.devices.device import SimulatedDevice
from hil.devices.memory import MemoryRegisterClient
from hil.devices.server import DeviceServer, Endpoint
from hil.errors import RunError
from hil.taps import BARRIER_TOPIC, BusTap
from hil.world import Home
from protocols.bus import Bus, BusMessage, Will
from protocols.memory_bus import MemoryBroker, MemoryBus
from protocols.mqtt_bus import MqttBus, MqttSettings

DEVICE_TIMEOUT_S = 0.5
"""How long an edge waits for a device on the loopback interface; all of them wait as long for one that is silent."""

PATIENT_TIMEOUT_S = 10.0
"""The same where no fault makes a device silent: then whoever is late is a busy machine, and waiting for it costs nothing."""

BARRIER_TIMEOUT_S = 20.0


class Stage(Protocol):
    """What a run needs of the place where it plays. The attribute goes into the configuration of the edges."""

    device_timeout_s: float

    async def open(self) -> None:
        """Start brokers and servers."""
        ...

    async def close(self) -> None:
        """Stop everything that `open` started."""
        ...

    def bus(self, name: str, will: Will | None) -> Bus:
        """A bus for one participant; a participant that restarts asks again."""
        ...

    def outsider(self) -> Bus:
        """The bus of somebody who may publish and is nobody."""
        ...

    def place(self, home: Home, device: SimulatedDevice) -> tuple[str, int]:
        """Host and port at which a device of a home answers."""
        ...

    def clients(self, home: Home, monotonic_s: Callable[[], float]) -> ClientFactory:
        """How the edge of this home reaches its devices."""
        ...

    async def together(self, cycles: Sequence[Callable[[], Awaitable[None]]]) -> None:
        """Run the cycles of independent participants: in turn where nothing waits, else at the same time; inside one home the devices are
        asked one after the other, because thirty homes keep the loop busy and tasks for single requests cost a twelfth of the run."""
        ...

    async def connected(self, taps: Sequence[BusTap]) -> None:
        """Return when all of these have found the broker."""
        ...

    async def settle(self, publishers: Sequence[BusTap], listeners: Sequence[BusTap]) -> None:
        """Return when each listener has received whatever the publishers had published before."""
        ...

    async def leave(self, tap: BusTap) -> None:
        """Cut one participant off without a farewell in its name."""
        ...

    async def broker_down(self) -> None:
        """The broker dies."""
        ...

    async def broker_up(self, taps: Sequence[BusTap]) -> None:
        """The broker comes back; return when these have found it again."""
        ...

    def requests(self) -> int:
        """Modbus requests so far."""
        ...


class MemoryStage:
    """See the module docstring."""

    device_timeout_s = 1.0

    def __init__(self) -> None:
        self._broker = MemoryBroker()
        self._buses: list[MemoryBus] = []
        self._outsider = self._broker.client()
        self._outsider.connect()
        self._clients: list[MemoryRegisterClient] = []

    async def open(self) -> None:
        return None

    async def close(self) -> None:
        return None

    def bus(self, name: str, will: Will | None) -> Bus:
        del name
        bus = self._broker.client(will=will)
        self._buses.append(bus)
        return bus

    def outsider(self) -> Bus:
        return self._outsider

    def place(self, home: Home, device: SimulatedDevice) -> tuple[str, int]:
        """Ports mean nothing here; they only have to tell the devices of a home apart."""
        return "127.0.0.1", 1 + list(home.devices).index(device.name)

    def clients(self, home: Home, monotonic_s: Callable[[], float]) -> ClientFactory:
        by_port = {self.place(home, device)[1]: device for device in home.devices.values()}

        def client(config: DeviceConfig) -> MemoryRegisterClient:
            options = TransportOptions(
                timeout_s=config.timeout_s, retries=config.retries, backoff_s=config.backoff_s, backoff_max_s=config.backoff_max_s
            )
            made = MemoryRegisterClient((by_port[config.port],), options=options, monotonic_s=monotonic_s)
            self._clients.append(made)
            return made

        return client

    async def together(self, cycles: Sequence[Callable[[], Awaitable[None]]]) -> None:
        for cycle in cycles:
            await cycle()

    async def connected(self, taps: Sequence[BusTap]) -> None:
        """In memory a participant is connected as soon as it is started."""

    async def settle(self, publishers: Sequence[BusTap], listeners: Sequence[BusTap]) -> None:
        """Delivery in memory is immediate."""

    async def leave(self, tap: BusTap) -> None:
        assert isinstance(tap.inner, MemoryBus)
        tap.inner.cut()
        self._buses.remove(tap.inner)

    async def broker_down(self) -> None:
        for bus in self._buses:
            await bus.stop()

    async def broker_up(self, taps: Sequence[BusTap]) -> None:
        for tap in taps:
            assert isinstance(tap.inner, MemoryBus)
            tap.inner.connect()

    def requests(self) -> int:
        return sum(client.requests for client in self._clients)


class RequestLog:
    """Every Modbus request of a run, cycle by cycle, by endpoint: what a bench needs to ask the same again without a controller."""

    def __init__(self) -> None:
        self.cycles: list[dict[tuple[str, str], list[bytes]]] = []

    def next_cycle(self) -> None:
        """What follows belongs to a new cycle."""
        self.cycles.append({})

    def take(self) -> list[dict[tuple[str, str], list[bytes]]]:
        """What was noted since the last time."""
        cycles, self.cycles = self.cycles, []
        return cycles

    def overhear(self, key: tuple[str, str], device: SimulatedDevice) -> SimulatedDevice:
        """The device, with every request to it noted from now on."""
        answer = device.answer

        def noted(pdu: bytes) -> bytes:
            if self.cycles:
                self.cycles[-1].setdefault(key, []).append(pdu)
            return answer(pdu)

        device.answer = noted  # type: ignore[method-assign]
        return device


class SocketStage:
    """See the module docstring; `mosquitto` is the broker's program where it is not on PATH, `log` notes every request."""

    def __init__(
        self,
        homes: Sequence[Home],
        mosquitto: Path | None = None,
        log: RequestLog | None = None,
        *,
        device_timeout_s: float = DEVICE_TIMEOUT_S,
    ) -> None:
        self.device_timeout_s = device_timeout_s
        self._log = log
        self._endpoints: dict[tuple[str, str], Endpoint] = {}
        for home in homes:
            for device in home.devices.values():
                key = (home.name, device.name)
                self._endpoints[key] = Endpoint(devices=(device if log is None else log.overhear(key, device),))
        self._server = DeviceServer(tuple(self._endpoints.values()))
        self._broker = Broker(mosquitto)
        self._observer: BusTap | None = None
        self._round = 0
        self._down = False

    @property
    def broker_port(self) -> int:
        """Where the broker listens, once the stage is open."""
        return self._broker.port

    async def open(self) -> None:
        self._broker.start()
        await self._server.start()
        self._observer = BusTap(self.bus("bench", None))
        await self._observer.start()
        await self._until(lambda: self._observer is not None and self._observer.connected, "the broker to accept the bench")

    async def close(self) -> None:
        if self._observer is not None:
            await self._observer.stop()
        await self._server.stop()
        self._broker.close()

    def bus(self, name: str, will: Will | None) -> Bus:
        settings = MqttSettings(port=self._broker.port, backoff_min_s=0.05, backoff_max_s=0.2, session_expiry_s=3600)
        bus = MqttBus(settings, client_id=name, will=will)
        bus.subscribe(BARRIER_TOPIC)
        return bus

    def outsider(self) -> Bus:
        assert self._observer is not None
        return self._observer

    def place(self, home: Home, device: SimulatedDevice) -> tuple[str, int]:
        endpoint = self._endpoints[home.name, device.name]
        return endpoint.host, endpoint.port

    def clients(self, home: Home, monotonic_s: Callable[[], float]) -> ClientFactory:
        del home
        return ModbusSessions(monotonic_s)

    async def together(self, cycles: Sequence[Callable[[], Awaitable[None]]]) -> None:
        if self._log is not None:
            self._log.next_cycle()
        await asyncio.gather(*(cycle() for cycle in cycles))

    async def connected(self, taps: Sequence[BusTap]) -> None:
        await self._until(lambda: all(tap.connected for tap in taps), "every participant to find the broker")

    async def settle(self, publishers: Sequence[BusTap], listeners: Sequence[BusTap]) -> None:
        """First the broker acknowledges everything that was published, then one barrier passes through to every listener."""
        if self._down or self._observer is None:
            return
        for tap in publishers:
            if tap.connected and not await tap.flush(BARRIER_TIMEOUT_S):
                raise RunError(f"the broker acknowledged nothing for {BARRIER_TIMEOUT_S:.0f} s")
        self._round += 1
        self._observer.publish(BusMessage(topic=BARRIER_TOPIC, payload=str(self._round).encode(), qos=1))
        deadline_s = time.monotonic() + BARRIER_TIMEOUT_S
        for tap in listeners:
            tap.pump()
            while tap.barrier < self._round and tap.connected:
                if time.monotonic() > deadline_s:
                    raise RunError(f"barrier {self._round} did not come through within {BARRIER_TIMEOUT_S:.0f} s")
                await tap.inner.wait(0.5)
                tap.pump()

    async def leave(self, tap: BusTap) -> None:
        await tap.stop()

    def cut_broker(self) -> None:
        """Stop the broker and wait for nobody."""
        self._down = True
        self._broker.stop()

    def restore_broker(self) -> None:
        """Start the broker on its port again and wait for nobody."""
        self._broker.start()
        self._down = False

    async def broker_down(self) -> None:
        self.cut_broker()

    async def broker_up(self, taps: Sequence[BusTap]) -> None:
        self.restore_broker()
        assert self._observer is not None
        everybody = [*taps, self._observer]
        await self._until(lambda: all(tap.connected for tap in everybody), "everybody to find the restarted broker")

    def requests(self) -> int:
        return sum(endpoint.requests for endpoint in self._endpoints.values())

    async def _until(self, done: Callable[[], bool], what: str) -> None:
        """Wait on wall time, giving way to the sockets."""
        deadline_s = time.monotonic() + BARRIER_TIMEOUT_S
        while not done():
            if time.monotonic() > deadline_s:
                raise RunError(f"waited {BARRIER_TIMEOUT_S:.0f} s in vain for {what}")
            await asyncio.sleep(0.005)
