"""A small feeder for the tests of the service: three homes on a weak line, their ears, and a coordinator that can be restarted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.config import CoordinatorConfig, DefaultsSection, EnvelopesSection, FeederSection, IdentitySection, NodeSection
from coordinator.network.model import Bus, Connection, Line, Network, NetworkKind, Source, Transformer
from coordinator.service import CoordinatorService
from coordinator.store import Store
from protocols.clock import ManualClock
from protocols.memory_bus import MemoryBroker, MemoryBus
from protocols.messages import (
    AnyMessage,
    DefaultControl,
    EnvelopeControl,
    EnvelopeSchedule,
    SafetyState,
)
from protocols.signing import Sequencer, Signer, Verifier
from protocols.topics import node_topic

START_S = 1_700_000_100.0
COMMUNITY = "street"
HOMES = ("h1", "h2", "h3")
KEYS = {
    name: Signer(Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)) for number, name in enumerate((*HOMES, "coordinator", "thief"))
}


def matrix(own: float, mutual: float) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(own if row == column else mutual for column in range(3)) for row in range(3))


def street(ampacity_a: float = 100.0) -> Network:
    """Three single-phase homes on three phases at the end of a weak line."""
    return Network(
        name="street",
        kind=NetworkKind.UNBALANCED,
        frequency_hz=50.0,
        buses=(Bus(id="mv", nominal_ln_v=22000.0 / 3**0.5), Bus(id="lv", nominal_ln_v=230.0), Bus(id="pole", nominal_ln_v=230.0)),
        sources=(Source(bus="mv"),),
        lines=(Line(id="main", from_bus="lv", to_bus="pole", r_ohm=matrix(0.3, 0.08), x_ohm=matrix(0.1, 0.03), ampacity_a=ampacity_a),),
        transformers=(
            Transformer(id="tx", from_bus="mv", to_bus="lv", rated_va=1e5, from_ll_v=22000.0, to_ll_v=410.0, r_frac=0.01, x_frac=0.04),
        ),
        connections=(
            *(Connection(id=f"c{home}", bus="pole", phases=(phase,)) for phase, home in enumerate(HOMES, start=1)),
            Connection(id="lamp", bus="pole", p_w=900.0, q_var=300.0),
        ),
        vmin_pu=0.94,
        vmax_pu=1.10,
    )


def settings(**changes: Any) -> CoordinatorConfig:
    config = CoordinatorConfig(
        identity=IdentitySection(community=COMMUNITY),
        feeder=FeederSection(network="street"),
        nodes=tuple(NodeSection(name=home, connection=f"c{home}", import_rating_w=14_000.0, export_rating_w=10_000.0) for home in HOMES),
        envelopes=EnvelopesSection(horizon_s=1800.0),
        defaults=DefaultsSection(export_w=1500.0, import_w=3000.0),
    )
    return msgspec.structs.replace(config, **changes)


class Listener:
    """A home's ear: verifies what the coordinator says to it and keeps what it would follow."""

    def __init__(self, broker: MemoryBroker, clock: ManualClock, node: str) -> None:
        self.bus = broker.client()
        self.bus.subscribe(f"commonwatt/1/{COMMUNITY}/control/{node}/+")
        self.bus.subscribe(f"commonwatt/1/{COMMUNITY}/coordinator/status")
        self.bus.connect()
        self._clock = clock
        self._verifier = Verifier(COMMUNITY, {"coordinator": [KEYS["coordinator"].public_key]})
        self.said: list[AnyMessage] = []

    def hear(self) -> list[AnyMessage]:
        fresh = [self._verifier.open(message, self._clock.now_s()) for message in self.bus.receive()]
        self.said += fresh
        return fresh

    def controls(self) -> list[EnvelopeControl]:
        return [control for message in self.said if isinstance(message, EnvelopeSchedule) for control in message.controls]

    def default(self) -> DefaultControl:
        return next(message for message in reversed(self.said) if isinstance(message, DefaultControl))


class Feeder:
    """A coordinator, its broker, its homes and their clock."""

    def __init__(self, folder: Path, config: CoordinatorConfig | None = None, **options: Any) -> None:
        self.clock = ManualClock(START_S)
        self.broker = MemoryBroker()
        self.folder = folder
        self.config = settings() if config is None else config
        self.options = options
        self.homes = {home: Listener(self.broker, self.clock, home) for home in HOMES}
        self.sequencer = Sequencer(START_S)
        self.boot()

    def boot(self) -> None:
        self.bus: MemoryBus = self.broker.client()
        self.store = Store(f"sqlite:///{self.folder / 'c.db'}", buffer_rows=self.options.get("buffer_rows", 1000))
        self.service = CoordinatorService(
            self.config,
            bus=self.bus,
            clock=self.clock,
            network=self.options.get("network", street()),
            store=self.store,
            signer=KEYS["coordinator"],
            verifier=Verifier(COMMUNITY, {home: [KEYS[home].public_key] for home in HOMES}),
            compute=self.options.get("compute"),
        )

    async def step(self, dt_s: float = 0.0) -> Any:
        self.clock.advance(dt_s)
        record = await self.service.step()
        for home in self.homes.values():
            home.hear()
        return record

    def say(self, home: str, kind: str, message: type[Any], *, key: str | None = None, **fields: Any) -> None:
        client = self.homes[home].bus
        content = message(sender=home, time_s=self.clock.now_s(), sequence=self.sequencer.next(), **fields)
        client.publish(KEYS[key or home].seal(node_topic(COMMUNITY, home, kind), content))


def telemetry(start_s: float) -> dict[str, Any]:
    return {
        "start_s": start_s, "duration_s": 60.0, "net_import_w": -500.0, "load_w": 300.0, "pv_w": -800.0, "battery_w": None, "ev_w": None,
        "soc_frac": None, "voltage_v": (231.5,), "energy_import_wh": None, "energy_export_wh": None, "import_limit_w": 3000.0,
        "export_limit_w": 0.0, "exceeded_s": 0.0, "state": SafetyState.CONTROLLED,
    }  # fmt: skip
