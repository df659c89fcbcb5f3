"""`commonwatt-edge doctor`: looks at everything a household's controller depends on, and says what to do about it. A shell.

Devices are asked only while no edge runs: many inverters take one session, and the running edge knows how they are. Nothing is written to
a device, and of the disk only a file of a few bytes, which is removed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import os
import sys
import time
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509

from edge.config import EdgeConfig, load_config
from edge.devices.registry import ModbusSessions, open_device
from edge.errors import ConfigurationError, DeviceError, EdgeError, StoreError
from edge.runner import keys_of
from edge.store import Store
from edge.upkeep.broker_call import Call, call_broker
from edge.upkeep.findings import (
    Finding,
    Verdict,
    judge_certificates,
    judge_clock,
    judge_controls,
    judge_disk,
    judge_service,
    worst,
)
from edge.upkeep.live import LiveControls, LiveState
from edge.upkeep.live_socket import ask
from protocols.credentials import Expiries
from protocols.errors import ProtocolError
from protocols.files import sync_folder

FIRST_CYCLES: Final = 3
TIME_ERROR: Final = 5
"""What adjtimex(2) returns for a clock that nothing synchronises."""

MARKS: Final = {Verdict.OK: "ok  ", Verdict.WARN: "WARN", Verdict.FAIL: "FAIL"}


def doctor(args: argparse.Namespace) -> int:
    """Carry out the command: 0 nothing is broken (there may be warnings), 1 something is, 2 there is no usable configuration."""
    try:
        config = load_config(args.config)
    except ConfigurationError as error:
        found = [Finding(check="configuration", verdict=Verdict.FAIL, what=str(error), remedy="commonwatt-edge init, or correct the file")]
        _print(found, as_json=args.json)
        return 2
    found = examine(config, args.config)
    _print(found, as_json=args.json)
    return 1 if worst(found) is Verdict.FAIL else 0


def examine(config: EdgeConfig, path: Path) -> list[Finding]:
    """Every check, in the order in which one would repair."""
    folder = path.resolve().parent
    state_path = folder / config.store.path
    what = f"{path}: node {config.identity.node}, {len(config.devices)} devices"
    found = [Finding(check="configuration", verdict=Verdict.OK, what=what)]
    live, hung = _live(state_path)
    now_s = time.time()
    found.append(judge_service(live, now_s) if hung is None else hung)
    call = asyncio.run(call_broker(config, folder))
    expiries, valid_from_s = _certificates(config, folder)
    found.append(judge_clock(synchronised=_is_synchronised(), now_s=now_s, valid_from_s=valid_from_s, heard_s=call.heard_s))
    found.append(_disk(state_path, config.identity.node))
    found += _keys(config, folder)
    found += judge_certificates(expiries, now_s)
    found.append(_broker(config, call))
    found += _devices_of(live) if live is not None else asyncio.run(_devices(config))
    found.append(judge_controls(_controls(live, state_path, config.identity.node), now_s))
    return found


def _print(found: list[Finding], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(msgspec.json.encode({"verdict": worst(found), "findings": found}).decode() + "\n")
        return
    for finding in found:
        sys.stdout.write(f"{MARKS[finding.verdict]}  {finding.check:<13} {finding.what}\n")
        if finding.remedy:
            sys.stdout.write(f"{'':<19} -> {finding.remedy}\n")
    sys.stdout.write(f"{worst(found).value}\n")


def _live(state_path: Path) -> tuple[LiveState | None, Finding | None]:
    """The running edge, given the cycles in which every one begins in failsafe."""
    try:
        live = ask(state_path)
        for _ in range(FIRST_CYCLES):
            if live is None or live.cycles > FIRST_CYCLES:
                break
            time.sleep(live.cycle_s)
            live = ask(state_path)
        return live, None
    except EdgeError as error:
        remedy = "systemctl restart commonwatt-edge; run the doctor as root or as commonwatt-edge"
        return None, Finding(check="service", verdict=Verdict.FAIL, what=str(error), remedy=remedy)


def _is_synchronised() -> bool | None:
    """What the kernel says of its clock; None where it does not say."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != TIME_ERROR


def _certificates(config: EdgeConfig, folder: Path) -> tuple[dict[str, float], float | None]:
    tls = config.broker.tls
    if tls is None:
        return {}, None
    files = {"node": folder / tls.cert_file, "authority": folder / tls.ca_file}
    begins_s = None
    with contextlib.suppress(OSError, ValueError):
        begins_s = x509.load_pem_x509_certificate(files["node"].read_bytes()).not_valid_before_utc.timestamp()
    return Expiries(files, time.monotonic).read(), begins_s


def _keys(config: EdgeConfig, folder: Path) -> list[Finding]:
    """Are the keys there, and for their owner alone?"""
    try:
        keys_of(config, folder)
    except (EdgeError, ProtocolError) as error:
        return [Finding(check="keys", verdict=Verdict.FAIL, what=str(error), remedy="commonwatt-edge enrol BUNDLE")]
    return [Finding(check="keys", verdict=Verdict.OK, what="this node's key and the coordinator's are here, and private")]


def _disk(state_path: Path, node: str) -> Finding:
    trouble = ""
    try:
        Store(state_path, node=node).peek()
    except StoreError as error:
        trouble = str(error)
    trial = state_path.with_name(f".doctor-{os.getpid()}")
    sync_s: float | None = None
    free_bytes = 0.0
    try:
        usage = os.statvfs(state_path.parent)
        free_bytes = float(usage.f_bavail * usage.f_frsize)
        begun_s = time.monotonic()
        with trial.open("wb") as file:
            file.write(b"doctor")
            file.flush()
            os.fsync(file.fileno())
        sync_folder(state_path.parent)
        sync_s = time.monotonic() - begun_s
    except OSError:
        sync_s = None
    finally:
        with contextlib.suppress(OSError):
            trial.unlink(missing_ok=True)
    set_aside = state_path.with_name(state_path.name + ".damaged").exists()
    return judge_disk(free_bytes=free_bytes, sync_s=sync_s, trouble=trouble, set_aside=set_aside)


def _broker(config: EdgeConfig, call: Call) -> Finding:
    where = f"{config.broker.host}:{config.broker.port}"
    if call.trouble:
        return Finding(check="broker", verdict=Verdict.FAIL, what=f"{where}: {call.trouble}", remedy=call.remedy)
    if call.coordinator is None:
        what = f"{where} lets this node in; the coordinator has said nothing there"
        return Finding(check="broker", verdict=Verdict.WARN, what=what, remedy="is the coordinator running? commonwatt-coordinator run")
    if call.coordinator == "offline":
        what = f"{where} lets this node in; the coordinator is offline"
        return Finding(check="broker", verdict=Verdict.WARN, what=what, remedy="ask the operator")
    what = f"{where} lets this node in over {call.secured}; the coordinator is {call.coordinator}"
    return Finding(check="broker", verdict=Verdict.OK, what=what)


def _devices_of(live: LiveState) -> list[Finding]:
    """As the running edge sees them."""
    found = []
    for device in live.devices:
        bad = device.trouble if device.reading is not None or device.trouble else "never answered"
        what = f"{device.name}: {bad if bad else 'answers' if device.setpoint is None else 'answers and takes setpoints'}"
        verdict = Verdict.FAIL if bad else Verdict.OK
        remedy = "commonwatt-edge probe ADDRESS, after stopping the service; cable, address, unit?" if bad else ""
        found.append(Finding(check="devices", verdict=verdict, what=what, remedy=remedy))
    return found


async def _devices(config: EdgeConfig) -> list[Finding]:
    """One reading of each; nothing is written."""
    found = []
    sessions = ModbusSessions(time.monotonic)
    for entry in config.devices:
        device = open_device(entry, sessions)
        try:
            reading = await device.read(time.time())
            what = f"{entry.name}: {device.identity or 'answers'} at {entry.endpoint()}, {reading.power_w:.0f} W into it"
            found.append(Finding(check="devices", verdict=Verdict.OK, what=what))
        except DeviceError as error:
            remedy = f"commonwatt-edge probe {entry.host or '--serial ' + str(entry.serial_port)}; cable, address, unit?"
            found.append(Finding(check="devices", verdict=Verdict.FAIL, what=f"{entry.name}: {error}", remedy=remedy))
        finally:
            await device.close()
    return found


def _controls(live: LiveState | None, state_path: Path, node: str) -> LiveControls | None:
    if live is not None:
        return live.controls
    try:
        kept = Store(state_path, node=node).peek()
    except StoreError:
        return None
    if kept is None:
        return None
    ends_s = [pending.control.start_s + pending.control.duration_s for pending in kept.control.pending if not pending.cancelled]
    return LiveControls(count=len(ends_s), until_s=max(ends_s, default=None), default=kept.control.default)
