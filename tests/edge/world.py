"""A small unkind world for the closed loop: a house of fake devices behind `edge.devices.driver.Device`, and a coordinator's pen.

The devices are not the bench's: they follow a setpoint at once or after a lag, revert by their own timers, and fail on demand.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import UNSET, UnsetType

from edge.agent import EdgeAgent
from edge.config import ControlSection, EdgeConfig, IdentitySection, ScheduleSection, SiteSection, StoreSection
from edge.cycle_record import CycleRecord
from edge.devices.discipline import DayCount
from edge.devices.mapping import Capabilities
from edge.devices.registry import DeviceConfig
from edge.errors import DeviceGarbage, DeviceRefused, DeviceTimeout
from edge.store import Store
from edge.values import DeviceKind, Reading, Setpoint, WriteOutcome, WriteStatus
from protocols.bus import BusMessage
from protocols.clock import ManualClock
from protocols.memory_bus import MemoryBroker, MemoryBus
from protocols.messages import DefaultControl, EnvelopeControl, EnvelopeSchedule
from protocols.signing import Signer, Verifier
from protocols.topics import control_topic

START_S = 1_800_000_000.0
COMMUNITY = "street"
NODE = "home-01"
COORDINATOR_KEY = Ed25519PrivateKey.from_private_bytes(b"coordinator key for the tests...")
NODE_KEY = Ed25519PrivateKey.from_private_bytes(b"node key, also for the tests....")


class FakeDevice:
    """One device. `fault` is None, timeout, refuse, refuse_write, stuck, garbage, crash or off."""

    def __init__(self, name: str, kind: DeviceKind, *, rated_w: float, soc_frac: float = 0.5, capacity_wh: float = 10e3) -> None:
        self.name = name
        self.kind = kind
        self.capabilities = Capabilities(measures_power=True)
        self.wear = DayCount()
        self.rated_w = rated_w
        self.soc_frac = soc_frac
        self.capacity_wh = capacity_wh
        self.power_w = 0.0
        self.available_w = 0.0
        self.connected = True
        self.fault: str | None = None
        self.reverts = True
        self.setpoint: Setpoint | None = None
        self.written_s = START_S
        self.writes = 0
        self.import_wh = 1.0
        self.export_wh = 1.0
        self._stuck: Reading | None = None

    async def read(self, now_s: float) -> Reading:
        if self.fault in ("timeout", "off"):
            raise DeviceTimeout(f"{self.name}: no answer", device=self.name)
        if self.fault == "refuse":
            raise DeviceRefused(f"{self.name}: busy", device=self.name, exception_code=6)
        if self.fault == "garbage":
            raise DeviceGarbage(f"{self.name}: not implemented", device=self.name)
        if self.fault == "crash":
            raise RuntimeError("a defect of the driver")
        if self.fault == "stuck" and self._stuck is not None:
            return msgspec.structs.replace(self._stuck, time_s=now_s)
        self._stuck = self._reading(now_s)
        return self._stuck

    async def write(self, setpoint: Setpoint, now_s: float) -> WriteOutcome:
        if self.fault in ("timeout", "off"):
            raise DeviceTimeout(f"{self.name}: no answer", device=self.name)
        if self.fault in ("refuse", "refuse_write"):
            raise DeviceRefused(f"{self.name}: busy", device=self.name, exception_code=6)
        if self.fault == "crash":
            raise RuntimeError("a defect of the driver")
        self.writes += 1
        self.setpoint = setpoint
        self.written_s = now_s
        return WriteOutcome(name=self.name, status=WriteStatus.WRITTEN, verified=True, reverts=self.reverts)

    async def close(self) -> None:
        return None

    def forget(self) -> None:
        """What a restart does: no setpoint is left."""
        self.setpoint = None

    def follow(self, now_s: float, dt_s: float) -> float:
        """Live through `dt_s`; returns the power at its end."""
        if self.fault == "off":
            self.power_w = 0.0
            return 0.0
        setpoint = self.setpoint
        power_w = None if setpoint is None else setpoint.power_w
        limit_w = None if setpoint is None else setpoint.limit_w
        if setpoint is not None and setpoint.revert_after_s is not None and now_s >= self.written_s + setpoint.revert_after_s:
            power_w, limit_w = setpoint.revert_power_w, setpoint.revert_limit_w
        limit_w = self.rated_w if limit_w is None else limit_w
        if self.kind is DeviceKind.PV:
            self.power_w = -min(self.available_w, limit_w, self.rated_w)
        elif self.kind is DeviceKind.BATTERY:
            self.power_w = self._battery(0.0 if power_w is None else power_w, dt_s)
        else:
            self.power_w = min(self.available_w if self.connected else 0.0, limit_w, self.rated_w)
        return self.power_w

    def count(self, dt_s: float) -> None:
        energy_wh = self.power_w * dt_s / 3600.0
        self.import_wh += max(energy_wh, 0.0)
        self.export_wh += max(-energy_wh, 0.0)

    def _battery(self, power_w: float, dt_s: float) -> float:
        power_w = min(max(power_w, -self.rated_w), self.rated_w)
        if (power_w > 0.0 and self.soc_frac >= 1.0) or (power_w < 0.0 and self.soc_frac <= 0.0):
            power_w = 0.0
        self.soc_frac = min(max(self.soc_frac + power_w * dt_s / 3600.0 / self.capacity_wh, 0.0), 1.0)
        return power_w

    def _reading(self, now_s: float) -> Reading:
        is_battery = self.kind is DeviceKind.BATTERY
        return Reading(
            name=self.name,
            kind=self.kind,
            time_s=now_s,
            power_w=float(round(self.power_w)),
            rated_w=self.rated_w,
            voltage_v=(round(230.0 + self.power_w / 5000.0, 1),),
            soc_frac=self.soc_frac if is_battery else None,
            capacity_wh=self.capacity_wh if is_battery else None,
            max_charge_w=self.rated_w if is_battery else None,
            max_discharge_w=self.rated_w if is_battery else None,
            connected=self.connected if self.kind is DeviceKind.EV_CHARGER else None,
            energy_import_wh=float(int(self.import_wh)),
            energy_export_wh=float(int(self.export_wh)),
        )


class World:
    """A house with meter, PV, battery and vehicle, its agent, and a coordinator that can write to it."""

    def __init__(self, folder: Path, *, battery_w: float = 5000.0, pv_w: float = 8000.0, config: EdgeConfig | None = None) -> None:
        self.clock = ManualClock(START_S)
        self.broker = MemoryBroker()
        self.meter = FakeDevice("meter", DeviceKind.METER, rated_w=20_000.0)
        self.pv = FakeDevice("pv", DeviceKind.PV, rated_w=pv_w)
        self.battery = FakeDevice("battery", DeviceKind.BATTERY, rated_w=battery_w)
        self.car = FakeDevice("car", DeviceKind.EV_CHARGER, rated_w=7360.0)
        self.controlled = [self.pv, self.battery, self.car]
        self.load_w = 500.0
        self.pv.available_w = 0.0
        self.car.connected = False
        self.config = make_config(folder) if config is None else config
        self.store = Store(folder / "state.json", node=NODE, fsync=False)
        self.coordinator = Signer(COORDINATOR_KEY)
        self.watcher = self.broker.client()
        self.watcher.connect()
        self.watcher.subscribe("commonwatt/1/street/node/home-01/#")
        self.pen = self.broker.client()
        self.pen.connect()
        self._sequence = itertools.count(int(START_S * 1000))
        self.bus: MemoryBus = self.broker.client()
        self.agent = self.make_agent()
        self.calm_until_s = START_S
        self.outside_s = 0.0
        self.worst_outside_s = 0.0

    def make_agent(self) -> EdgeAgent:
        self.bus = self.broker.client()
        return EdgeAgent(
            self.config,
            bus=self.bus,
            devices=[self.meter, *self.controlled],
            clock=self.clock,
            store=self.store,
            signer=Signer(NODE_KEY),
            verifier=Verifier(COMMUNITY, {"coordinator": [COORDINATOR_KEY.public_key()]}),
            seed=1,
        )

    async def power_cycle(self) -> None:
        """The edge dies without a word and comes back as a new process with the same disk."""
        self.bus.cut()
        self.agent = self.make_agent()
        await self.agent.start()

    def live(self, dt_s: float, step_s: float = 1.0, inside: Callable[[], tuple[float, float]] | None = None) -> None:
        """Let the physics run. `inside` gives (export, import) limits to hold the meter against, as the bench does."""
        for _ in range(round(dt_s / step_s)):
            self.clock.advance(step_s)
            now_s = self.clock.now_s()
            net_w = self.load_w + sum(device.follow(now_s, step_s) for device in self.controlled)
            self.meter.power_w = net_w
            for device in (self.meter, *self.controlled):
                device.count(step_s)
            if inside is not None:
                export_w, import_w = inside()
                bad = (net_w < -export_w - 100.0 or net_w > import_w + 100.0) and self.load_w <= import_w
                self.outside_s = self.outside_s + step_s if bad else 0.0
                self.worst_outside_s = max(self.worst_outside_s, self.outside_s)

    async def run(self, duration_s: float, inside: Callable[[], tuple[float, float]] | None = None) -> list[CycleRecord]:
        """Cycles with the physics between them."""
        records = []
        for _ in range(round(duration_s / self.config.control.cycle_s)):
            records.append(await self.agent.step())
            self.live(self.config.control.cycle_s, inside=inside)
        return records

    def send(self, *controls: EnvelopeControl, cancelled: tuple[str, ...] = ()) -> None:
        message = EnvelopeSchedule(
            sender="coordinator",
            time_s=self.clock.now_s(),
            sequence=next(self._sequence),
            node=NODE,
            controls=controls,
            cancelled=cancelled,
        )
        self.pen.publish(self.coordinator.seal(control_topic(COMMUNITY, NODE, "envelope"), message))

    def send_default(
        self, export_w: float | UnsetType = UNSET, import_w: float | UnsetType = UNSET, *, grad: int = 0, mrid: str = "default"
    ) -> None:
        message = DefaultControl(
            sender="coordinator",
            time_s=self.clock.now_s(),
            sequence=next(self._sequence),
            node=NODE,
            mrid=mrid,
            export_limit_w=export_w,
            import_limit_w=import_w,
            set_grad_w=grad,
        )
        self.pen.publish(self.coordinator.seal(control_topic(COMMUNITY, NODE, "default"), message, retain=True))

    def heard(self, kind: str) -> list[BusMessage]:
        """What the node said on one kind of topic since the last call."""
        return [message for message in self.watcher.receive() if message.topic.endswith(f"/{kind}")]


def control(
    mrid: str,
    start_s: float,
    duration_s: float,
    *,
    export_w: float | UnsetType = UNSET,
    import_w: float | UnsetType = UNSET,
    generation_w: float | UnsetType = UNSET,
    load_w: float | UnsetType = UNSET,
    primacy: int = 1,
    created_s: float = START_S,
    ramp_tms: int | UnsetType = UNSET,
    randomize_start_s: int = 0,
    randomize_duration_s: int = 0,
) -> EnvelopeControl:
    """A control with few words; times are seconds after START_S."""
    return EnvelopeControl(
        mrid=mrid,
        creation_time_s=created_s,
        start_s=START_S + start_s,
        duration_s=float(duration_s),
        primacy=primacy,
        export_limit_w=export_w,
        import_limit_w=import_w,
        generation_limit_w=generation_w,
        load_limit_w=load_w,
        ramp_tms=ramp_tms,
        randomize_start_s=randomize_start_s,
        randomize_duration_s=randomize_duration_s,
    )


def make_config(folder: Path, *, cycle_s: float = 10.0, schedule: bool = False, mode: str = "coordinated") -> EdgeConfig:
    devices = tuple(
        DeviceConfig(name=name, kind=kind, host="127.0.0.1", family="sunspec")
        for name, kind in (("meter", DeviceKind.METER), ("pv", DeviceKind.PV), ("battery", DeviceKind.BATTERY))
    )
    return EdgeConfig(
        identity=IdentitySection(community=COMMUNITY, node=NODE),
        site=SiteSection(import_rating_w=14_000.0, export_rating_w=10_000.0),
        devices=devices,
        control=ControlSection(cycle_s=cycle_s, mode=mode),  # type: ignore[arg-type]
        schedule=ScheduleSection(enabled=schedule),
        store=StoreSection(path=str(folder / "state.json"), fsync=False),
    )


def shake(world: World, rng: random.Random) -> None:
    """The weather and the people: at most one large change in half a minute, small ones always."""
    world.load_w = max(world.load_w + rng.gauss(0.0, 15.0), 50.0)
    now_s = world.clock.now_s()
    if now_s < world.calm_until_s:
        return
    kind = rng.random()
    if kind < 0.3:
        world.load_w = rng.choice([rng.uniform(100.0, 600.0), rng.uniform(100.0, 4500.0)])
    elif kind < 0.5:
        world.pv.available_w = rng.uniform(0.0, world.pv.rated_w)
    elif kind < 0.53:
        world.car.connected = not world.car.connected
        world.car.available_w = 7000.0
    else:
        return
    world.calm_until_s = now_s + 30.0
