"""`python -m hil.ingest_host PORT FOLDER NODES`: the coordinator of an ingest measurement, in a process of its own, until SIGTERM.

It is the shipped service in the shipped loop, with real signatures, replay windows, figures and a store on the disk. Envelopes are not
part of the measurement: the computation answers that it has none.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from coordinator.config import CoordinatorConfig, FeederSection, IdentitySection, NodeSection, StoreSection
from coordinator.envelopes import EnvelopeProblem, Infeasible
from coordinator.network.model import Bus, Connection, Line, Network, NetworkKind, Source
from coordinator.observation.observer import CoordinatorObserver
from coordinator.running import run_service
from coordinator.service import CoordinatorService, Ingested, StepRecord
from coordinator.store import Store
from hil.ingest_keys import COMMUNITY, key_of, name_of
from protocols.clock import SystemClock
from protocols.mqtt_bus import MqttBus, MqttSettings
from protocols.signing import Signer, Verifier
from protocols.topics import node_topic

STORE_FILE = "ingest.db"
READY = "ready"
"""Said on stdout when the broker was found."""


def main() -> None:
    """Run until SIGTERM."""
    port, folder, nodes = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    asyncio.run(_run(port, folder, nodes))


async def _run(port: int, folder: Path, nodes: int) -> None:
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    clock = SystemClock()
    url = f"sqlite:///{folder / STORE_FILE}"
    config = CoordinatorConfig(
        identity=IdentitySection(community=COMMUNITY),
        feeder=FeederSection(network="star"),
        nodes=tuple(
            NodeSection(name=name_of(index), connection=f"c{index}", import_rating_w=14e3, export_rating_w=10e3) for index in range(nodes)
        ),
        store=StoreSection(url=url),
    )
    bus = MqttBus(
        MqttSettings(port=port, queue_limit=100_000), client_id="coordinator", kept_until_handled=node_topic(COMMUNITY, "+", "+")
    )
    store = Store(url, buffer_rows=config.store.buffer_rows)
    service = CoordinatorService(
        config,
        bus=bus,
        clock=clock,
        network=_star(nodes),
        store=store,
        signer=Signer(key_of(-1)),
        verifier=Verifier(COMMUNITY, {name_of(index): [key_of(index).public_key()] for index in range(nodes)}),
        compute=_nothing,
    )
    observer = CoordinatorObserver(config, service, bus=bus, store=store, clock=clock, expiries=dict)
    said: list[str] = []

    def say_ready(_ingested: Ingested, _record: StepRecord | None) -> None:
        if bus.connected and not said:
            said.append(READY)
            sys.stdout.write(f"{READY}\n")
            sys.stdout.flush()

    await run_service(service, clock=clock, step_s=1.0, stopping=stopping, observers=(observer.turn, say_ready))


def _nothing(problem: EnvelopeProblem) -> Infeasible:
    del problem
    return Infeasible(reason="envelopes are not part of an ingest measurement", broken=())


def _star(nodes: int) -> Network:
    """Every edge on a line of its own: only the names matter here."""
    return Network(
        name="star",
        kind=NetworkKind.BALANCED,
        frequency_hz=50.0,
        buses=(Bus(id="source", nominal_ln_v=230.0), *(Bus(id=f"b{index}", nominal_ln_v=230.0) for index in range(nodes))),
        sources=(Source(bus="source"),),
        lines=tuple(
            Line(id=f"l{index}", from_bus="source", to_bus=f"b{index}", r_ohm=((0.1,),), x_ohm=((0.05,),), ampacity_a=100.0)
            for index in range(nodes)
        ),
        transformers=(),
        connections=tuple(Connection(id=f"c{index}", bus=f"b{index}", phases=(1, 2, 3), p_w=1000.0) for index in range(nodes)),
        vmin_pu=0.94,
        vmax_pu=1.10,
    )


if __name__ == "__main__":
    main()
