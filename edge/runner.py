"""`commonwatt-edge run`: one agent on the wall clock, over real Modbus and real MQTT, until it is told to stop. A shell.

Cycles begin at multiples of the cycle time after the first one, whatever a cycle took: a slow cycle delays nothing but itself, and
beginnings that were missed are skipped and counted, never caught up.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import msgspec

from edge.agent import EdgeAgent
from edge.config import EdgeConfig
from edge.correspondence import status_message
from edge.cycle_record import CycleRecord
from edge.devices.registry import ModbusSessions, open_device
from edge.errors import ConfigurationError
from edge.history import History, history_path
from edge.home_assistant.bridge import open_bridge
from edge.observation.watch import open_watch
from edge.planning import PlanMaker
from edge.store import Store
from edge.upkeep.expiry_log import ExpiryLog
from edge.upkeep.live import LiveView
from edge.upkeep.live_socket import LiveSocket, hold_alone, socket_path
from edge.upkeep.screen import Screen
from protocols.bus import BusMessage
from protocols.clock import Clock, SystemClock
from protocols.credentials import Expiries
from protocols.errors import ProtocolError
from protocols.keys import load_private_key, load_public_key
from protocols.messages import SafetyState
from protocols.mqtt_bus import MqttBus, with_files_beside
from protocols.service_manager import ServiceManager
from protocols.signing import Sequencer, Signer, Verifier
from protocols.topics import control_topic

if TYPE_CHECKING:
    from edge.leadership.part import CommunityPart

log = logging.getLogger(__name__)

Observer = Callable[[CycleRecord], None]

NO_MANAGER: Mapping[str, str] = {}
SILENT_CYCLES = 10
"""A control cycle that was due so many times and did not end counts as hung; it takes at least what the unit's `WatchdogSec` says."""


def build_agent(config: EdgeConfig, folder: Path, *, clock: Clock, part: CommunityPart | None = None) -> EdgeAgent:
    """The agent of a configuration whose relative paths start at `folder`. Raises `ConfigurationError` for keys that are not there."""
    signer, verifier = keys_of(config, folder)
    sessions = ModbusSessions(clock.monotonic_s)
    devices = [open_device(device, sessions) for device in config.devices]
    identity = config.identity
    wills = Sequencer(clock.now_s())

    def will() -> BusMessage:
        return status_message(
            identity.community, identity.node, signer, wills.next(), clock.now_s(), SafetyState.OFFLINE, ("connection lost",)
        )

    client_id = f"{identity.node}-{signer.private_name('edge')}"
    controls = control_topic(identity.community, identity.node, "+")
    try:
        bus = MqttBus(with_files_beside(config.broker, folder), client_id=client_id, will=will, kept_until_handled=controls)
    except ProtocolError as error:
        raise ConfigurationError(f"{error} - at $.broker.tls") from error
    store = Store(folder / config.store.path, node=identity.node, fsync=config.store.fsync)
    history = History(history_path(folder / config.store.path))
    return EdgeAgent(
        config,
        bus=bus,
        devices=devices,
        clock=clock,
        store=store,
        signer=signer,
        verifier=verifier,
        plan_maker=PlanMaker(config, clock=clock, history=history),
        community=part,
        background=True,
    )


def build_part(config: EdgeConfig, folder: Path) -> CommunityPart | None:
    """The household's part in its community, with a connection of its own; None where it takes none."""
    if not config.leadership.enabled:
        return None
    from edge.leadership.election_shell import BootClock
    from edge.leadership.part import make_part, part_will
    from edge.leadership.region_shell import region_will

    signer, _ = keys_of(config, folder)
    identity, clock = config.identity, BootClock()
    assert identity.key_file is not None, "checked above"
    key = load_private_key(folder / identity.key_file)
    will = part_will(identity.community, identity.node, key, clock)
    settings = msgspec.structs.replace(with_files_beside(config.broker, folder), session_expiry_s=0)
    region_bus = None
    if config.region.enabled:
        in_region = region_will(config.region.name, identity.community, key, clock)
        there = settings
        if config.region.broker is not None:
            there = msgspec.structs.replace(with_files_beside(config.region.broker, folder), session_expiry_s=0)
        region_bus = MqttBus(there, client_id=f"{identity.node}-{signer.private_name('region')}", will=in_region)
    return make_part(
        config,
        bus=MqttBus(settings, client_id=f"{identity.node}-{signer.private_name('community')}", will=will),
        clock=clock,
        key=key,
        coordinator_keys=tuple(load_public_key(folder / path) for path in identity.coordinator_keys),
        folder=folder,
        region_bus=region_bus,
    )


async def run_agent(
    agent: EdgeAgent,
    *,
    clock: Clock,
    cycle_s: float,
    stop: asyncio.Event,
    cycles: int | None = None,
    observers: Sequence[Observer] = (),
) -> int:
    """Step until `stop` is set or `cycles` are done; returns how many beginnings were missed. The devices are left in their safe
    stance. Each observer sees the record of each cycle, after its setpoints were written."""
    await agent.start()
    missed = done = 0
    begin_s = clock.monotonic_s()
    try:
        while not stop.is_set() and (cycles is None or done < cycles):
            record = await agent.step()
            done += 1
            for observer in observers:
                observer(record)
            elapsed = (clock.monotonic_s() - begin_s) / cycle_s
            following = math.floor(elapsed) + 1
            missed += max(following - done - missed, 0)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), max(begin_s + following * cycle_s - clock.monotonic_s(), 0.0))
    finally:
        await agent.stop()
    return missed


def manager_observer(manager: ServiceManager) -> Observer:
    """Feeds the watchdog with each cycle that came to its end. One that failed does not: an edge that only fails is restarted."""

    def observe(record: CycleRecord) -> None:
        if not record.failed:
            manager.alive(f"{record.state.value}: {'; '.join(record.reasons)}".rstrip(": "))

    return observe


def expiry_log(config: EdgeConfig, folder: Path, clock: Clock) -> ExpiryLog:
    """The log of what expires: the certificates with which this configuration speaks to its broker."""
    tls = config.broker.tls
    files = {} if tls is None else {"node": folder / tls.cert_file, "authority": folder / tls.ca_file}
    return ExpiryLog(Expiries(files, clock.monotonic_s).read)


def run(
    config: EdgeConfig,
    folder: Path,
    *,
    cycles: int | None = None,
    environment: Mapping[str, str] = NO_MANAGER,
    terminal: TextIO | None = None,
) -> int:
    """Run until SIGTERM or SIGINT; returns how many cycle beginnings were missed. `environment` says where the service manager is,
    `terminal` is where the live view is shown, if it is."""
    with hold_alone(folder / config.store.path):
        return asyncio.run(_run(config, folder, cycles, environment, terminal))


async def _run(
    config: EdgeConfig, folder: Path, cycles: int | None, environment: Mapping[str, str], terminal: TextIO | None
) -> int:
    clock = SystemClock()
    manager = ServiceManager(environment, patience_s=SILENT_CYCLES * config.control.cycle_s)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def end() -> None:
        manager.stopping()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    part = build_part(config, folder)
    agent = build_agent(config, folder, clock=clock, part=part)
    view = LiveView(agent, started_s=clock.now_s())
    live = LiveSocket(socket_path(folder / config.store.path), view.state)
    watch = open_watch(config, folder, bus=agent.bus, clock=clock, community=part)
    await live.start()
    await watch.start()
    beside = None if part is None else loop.create_task(part.run(stop))
    expiry = expiry_log(config, folder, clock)
    observers: list[Observer] = [manager_observer(manager), view.observe, watch.cycle, lambda record: expiry.look(record.time_s)]
    bridge = open_bridge(config, folder)
    if bridge is not None:
        await bridge.start()
        observers.append(bridge.cycle)
    with contextlib.ExitStack() as shown:
        if terminal is not None:
            screen = shown.enter_context(Screen(view.state, terminal, colour="NO_COLOR" not in environment))
            observers.append(lambda record: screen.show())
        missed = await run_agent(agent, clock=clock, cycle_s=config.control.cycle_s, stop=stop, cycles=cycles, observers=observers)
    stop.set()
    if beside is not None:
        await beside
    if bridge is not None:
        await bridge.stop()
    await watch.stop()
    await live.stop()
    log.info("stopped; %d cycle beginnings were missed", missed)
    return missed


def keys_of(config: EdgeConfig, folder: Path) -> tuple[Signer, Verifier]:
    """This node's signer, and the verifier of its coordinator. Raises `ConfigurationError` for keys that are not there or not private."""
    identity = config.identity
    if identity.key_file is None or not identity.coordinator_keys:
        raise ConfigurationError("key_file and coordinator_keys are needed to speak to others - at $.identity")
    try:
        signer = Signer(load_private_key(folder / identity.key_file))
        public_keys = [load_public_key(folder / path) for path in identity.coordinator_keys]
    except ProtocolError as error:
        raise ConfigurationError(f"{error} - at $.identity") from error
    return signer, Verifier(identity.community, {"coordinator": public_keys})
