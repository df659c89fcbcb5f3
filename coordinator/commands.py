"""What each subcommand of `commonwatt-coordinator` does. A shell; parsing and exit on errors are in `coordinator.cli`."""

from __future__ import annotations

import argparse
import asyncio
import csv
import logging
import math
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from coordinator.assembly import beside, open_store, read_network, read_signer, read_verifier
from coordinator.config import load_config
from coordinator.enrolment.trust import MemberTrust, member_trust
from coordinator.envelopes import AllocationRule, EnvelopeProblem, EnvelopeResult, Infeasible, Participant, compute_envelopes
from coordinator.errors import NetworkError
from coordinator.network.cases import check, load
from coordinator.network.model import Network
from coordinator.network.validate import require_valid
from coordinator.observation.watch import Watch, open_watch
from coordinator.powerflow.opendss import OpenDssEngine
from coordinator.powerflow.pgm import PgmEngine
from coordinator.powerflow.result import FloatArray, PowerFlowResult, line_loading_frac
from coordinator.reconfiguration.command import reconfigure as reconfigure
from coordinator.running import run_service
from coordinator.service import CoordinatorService, Ingested, StepRecord
from coordinator.speaking import status_message
from protocols.bus import BusMessage
from protocols.clock import Clock, SystemClock
from protocols.messages import Guarantee, SafetyState
from protocols.mqtt_bus import MqttBus
from protocols.service_manager import ServiceManager
from protocols.signing import Sequencer
from protocols.topics import node_topic

log = logging.getLogger(__name__)

EXIT_DONE, EXIT_NO = 0, 1


def _network(arguments: argparse.Namespace) -> Network:
    return require_valid(load(arguments.network, vmin_pu=arguments.vmin_pu, vmax_pu=arguments.vmax_pu))


def _say(arguments: argparse.Namespace, document: Any, lines: Sequence[str]) -> None:
    if arguments.json:
        sys.stdout.write(msgspec.json.encode(document).decode("utf-8") + "\n")
    else:
        sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def check_network(arguments: argparse.Namespace) -> int:
    findings = check(arguments.network, require_radial=arguments.radial)
    document = {"network": str(arguments.network), "valid": not findings, "findings": findings}
    verdict = f"{arguments.network}: valid" if not findings else f"{arguments.network}: {len(findings)} finding(s)"
    _say(arguments, document, [*map(str, findings), verdict])
    return EXIT_NO if findings else EXIT_DONE


def powerflow(arguments: argparse.Namespace) -> int:
    network = _network(arguments)
    p_w, q_var = network.base_power_w(), network.base_reactive_var()
    if arguments.loads is not None:
        _read_loads(arguments.loads, network, p_w, q_var)
    engine = PgmEngine(network) if arguments.engine == "pgm" else OpenDssEngine(network)
    document = _summary(network, engine.solve(p_w, q_var))
    legal = document["legal"]
    lines = [
        f"network      {network.name} ({network.kind.value}, {len(network.buses)} buses, {len(network.connections)} connections)",
        f"losses       {document['loss_w']:.1f} W of {document['source_w']:.1f} W from the source",
        f"voltage      {document['vmin_pu']:.5f} at {document['vmin_at']} to {document['vmax_pu']:.5f} at {document['vmax_at']} pu"
        f" (limits {network.vmin_pu:.4f} to {network.vmax_pu:.4f})",
        f"line         {_percent(document['line_loading_frac'])} of ampacity at {document['line_at']}",
        f"transformer  {_percent(document['transformer_loading_frac'])} of rating at {document['transformer_at']}",
        "limits       kept" if legal else "limits       BROKEN",
    ]
    _say(arguments, document, lines)
    return EXIT_DONE if legal else EXIT_NO


def _percent(fraction: float | None) -> str:
    return "none known" if fraction is None else f"{100.0 * fraction:.1f} %"


def _summary(network: Network, result: PowerFlowResult) -> dict[str, Any]:
    voltage_pu = result.voltage_pu[0]
    lowest = np.unravel_index(np.nanargmin(voltage_pu), voltage_pu.shape)
    highest = np.unravel_index(np.nanargmax(voltage_pu), voltage_pu.shape)
    lines = line_loading_frac(network, result.line_current_a)[0]
    line = int(np.nanargmax(lines)) if np.isfinite(lines).any() else None
    loading = result.transformer_loading_frac[0]
    transformer = int(loading.argmax()) if loading.size else None
    line_frac = None if line is None else float(lines[line])
    transformer_frac = None if transformer is None else float(loading[transformer])
    vmin_pu, vmax_pu = float(voltage_pu[lowest]), float(voltage_pu[highest])
    return {
        "network": network.name,
        "kind": network.kind.value,
        "loss_w": float(result.loss_w[0]),
        "source_w": float(result.source_p_w[0]),
        "source_var": float(result.source_q_var[0]),
        "vmin_pu": vmin_pu,
        "vmin_at": _place(network, lowest),
        "vmax_pu": vmax_pu,
        "vmax_at": _place(network, highest),
        "line_loading_frac": line_frac,
        "line_at": None if line is None else network.lines[line].id,
        "transformer_loading_frac": transformer_frac,
        "transformer_at": None if transformer is None else network.transformers[transformer].id,
        "legal": vmin_pu >= network.vmin_pu
        and vmax_pu <= network.vmax_pu
        and (line_frac is None or line_frac <= 1.0)
        and (transformer_frac is None or transformer_frac <= 1.0),
    }


def _place(network: Network, index: tuple[np.intp, ...]) -> str:
    bus = network.buses[int(index[0])].id
    return bus if network.is_balanced else f"{bus}.{int(index[1]) + 1}"


def _read_loads(path: Path, network: Network, p_w: FloatArray, q_var: FloatArray) -> None:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if reader.fieldnames is None or not {"connection", "p_w"} <= set(reader.fieldnames):
                raise NetworkError(f"{path} line 1: expected columns connection,p_w,q_var")
            for row in reader:
                where = f"{path} line {reader.line_num}"
                index = network.connection_index.get(row["connection"] or "")
                if index is None:
                    raise NetworkError(f"{where} column connection: {row['connection']!r} does not exist in network {network.name}")
                p_w[index] = _cell(where, "p_w", row["p_w"])
                q_var[index] = _cell(where, "q_var", row.get("q_var") or "0")
    except OSError as error:
        raise NetworkError(f"{path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise NetworkError(f"{path}: cannot be read ({error})") from error


def _cell(where: str, column: str, text: str | None) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise NetworkError(f"{where} column {column}: expected a finite number, got {text!r}")
    return value


def envelopes(arguments: argparse.Namespace) -> int:
    network = _network(arguments)
    participants = tuple(
        Participant(
            connection=connection.id,
            max_import_w=max(arguments.max_import_w, arguments.import_floor_w),
            max_export_w=max(arguments.max_export_w, arguments.export_floor_w),
            import_floor_w=arguments.import_floor_w,
            export_floor_w=arguments.export_floor_w,
            q_per_w=arguments.q_per_w,
        )
        for connection in network.connections
    )
    sys.stderr.write(f"computing {arguments.rule} envelopes of class {arguments.guarantee} for {len(participants)} connections ...\n")
    result = compute_envelopes(
        EnvelopeProblem(
            network=network,
            participants=participants,
            rule=AllocationRule(arguments.rule),
            guarantee=Guarantee(arguments.guarantee),
        )
    )
    if isinstance(result, Infeasible):
        _say(arguments, {"network": network.name, "feasible": False, "reason": result.reason, "broken": result.broken}, [result.reason])
        return EXIT_NO
    _say(arguments, _envelope_document(network, result), _envelope_lines(network, result))
    return EXIT_DONE


def _envelope_document(network: Network, result: EnvelopeResult) -> dict[str, Any]:
    return {
        "network": network.name,
        "feasible": True,
        "rule": result.rule.value,
        "guarantee": result.guarantee.value,
        "rounds": result.rounds,
        "check": result.certificate.check,
        "envelopes": result.certificate.box,
    }


def _envelope_lines(network: Network, result: EnvelopeResult) -> list[str]:
    box, check_ = result.certificate.box, result.certificate.check
    width = max(len(item.connection) for item in box)
    rows = [f"{item.connection:<{width}}  {item.import_limit_w:>12.0f}  {item.export_limit_w:>12.0f}" for item in box]
    return [
        f"{'connection':<{width}}  {'import_W':>12}  {'export_W':>12}",
        *rows,
        f"total import {sum(item.import_limit_w for item in box):.0f} W, export {sum(item.export_limit_w for item in box):.0f} W",
        f"rule {result.rule.value}, class {result.guarantee.value}: verified by exact AC power flow ({check_.engine}) at"
        f" {check_.corners} corners of {network.name}: {check_.method}",
        *(f"  {item.where}: {item.value:.5f}, limit {item.limit:.5f}" for item in check_.extremes),
    ]


def run(arguments: argparse.Namespace) -> int:
    """Run the service until SIGTERM or SIGINT."""
    folder = arguments.config.resolve().parent
    config = beside(load_config(arguments.config), folder)
    clock = SystemClock()
    signer = read_signer(config)
    community = config.identity.community
    wills = Sequencer(clock.now_s())

    def will() -> BusMessage:
        return status_message(signer, community, clock.now_s(), wills.next(), SafetyState.OFFLINE, ("connection lost",))

    verifier = read_verifier(config)
    kept = node_topic(community, "+", "+")
    bus = MqttBus(config.broker, client_id=f"coordinator-{signer.private_name(community)}", will=will, kept_until_handled=kept)
    store = open_store(config)
    network = read_network(config)
    service = CoordinatorService(config, bus=bus, clock=clock, network=network, store=store, signer=signer, verifier=verifier)
    trust = member_trust(folder, verifier)

    def expiries() -> dict[str, float]:
        return {} if trust is None else trust.expiries

    watch = open_watch(config, folder, service, bus=bus, store=store, clock=clock, expiries=expiries)
    asyncio.run(_run(service, arguments.step_s, clock, trust, ServiceManager(os.environ), watch))
    return EXIT_DONE


async def _run(
    service: CoordinatorService, step_s: float, clock: Clock, trust: MemberTrust | None, manager: ServiceManager, watch: Watch
) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def end() -> None:
        manager.stopping()
        stopping.set()

    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, end)

    def before() -> None:
        if trust is not None:
            trust.refresh(clock.now_s(), clock.monotonic_s())

    def feed(_ingested: Ingested, record: StepRecord | None) -> None:
        if record is not None:
            manager.alive()

    await watch.start()
    await run_service(service, clock=clock, step_s=step_s, stopping=stopping, before=before, observers=(feed, watch.turn))
    await watch.stop()
