"""`commonwatt-edge status`: the present state of the household in one screen, asked of the running edge, or what the disk remembers.

Generation and discharging are shown as positive numbers, in words that say which. A shell.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator
from datetime import datetime

import msgspec
from msgspec import UNSET

from edge.config import load_config
from edge.limits import Limit
from edge.store import EdgeState, Store
from edge.upkeep.live import LiveControls, LiveDevice, LiveState
from edge.upkeep.live_socket import ask
from edge.values import DeviceKind
from protocols.messages import DefaultControl, SafetyState

WELL = (SafetyState.CONTROLLED, SafetyState.DEFAULT)
LATE_CYCLES = 10


def status(args: argparse.Namespace) -> int:
    """Carry out the command: 0 where an edge runs and controls."""
    config = load_config(args.config)
    path = args.config.resolve().parent / config.store.path
    now_s = time.time()
    state = ask(path)
    if state is not None:
        text = msgspec.json.encode({"running": True, **msgspec.to_builtins(state)}).decode() if args.json else render(state, now_s)
        sys.stdout.write(text + "\n")
        return 0 if is_well(state, now_s) else 1
    kept = Store(path, node=config.identity.node).peek()
    if args.json:
        sys.stdout.write(msgspec.json.encode({"running": False, "kept": None if kept is None else kept.control}).decode() + "\n")
    else:
        sys.stdout.write(render_kept(config.identity.node, kept, now_s) + "\n")
    return 1


def is_well(state: LiveState, now_s: float) -> bool:
    """Whether the edge controls: its cycles end, and it is not in failsafe."""
    return state.state in WELL and now_s - state.time_s <= max(LATE_CYCLES * state.cycle_s, 30.0)


def render(state: LiveState, now_s: float) -> str:
    """One screen for people."""
    age_s = max(now_s - state.started_s, 0.0)
    failed = f", {state.failed_cycles} failed" if state.failed_cycles else ""
    reasons = f": {'; '.join(state.reasons)}" if state.reasons else ""
    lines = [
        f"{state.node} of {state.community}: {state.state.value.upper()}{reasons}",
        _row("edge", f"{state.software}, process {state.pid}, up {span(age_s)}, {state.cycles} cycles of {state.cycle_s:g} s{failed}"),
    ]
    late_s = now_s - state.time_s
    if late_s > max(LATE_CYCLES * state.cycle_s, 30.0):
        lines.append(_row("", f"NO CYCLE HAS ENDED FOR {span(late_s)}"))
    lines.append(_row("grid", "the meter says nothing" if state.net_import_w is None else _net(state.net_import_w)))
    limits = (("import", state.limits.import_), ("export", state.limits.export), ("generation", state.limits.generation),
              ("load", state.limits.load))  # fmt: skip
    lines += [_row("limits" if name == "import" else "", _limit(name, limit)) for name, limit in limits if limit is not None]
    lines += [_row(device.name, "; ".join(_device(device, state.time_s))) for device in state.devices]
    heard_s = state.coordinator_silent_s
    heard = "coordinator not heard yet" if heard_s is None else f"coordinator silent for {span(heard_s)}"
    lines.append(_row("broker", f"{state.broker} {'connected' if state.connected else 'NOT CONNECTED'}, {heard}"))
    lines.append(_row("controls", controls_words(state.controls, now_s)))
    lines.append(_row("plan", "none" if state.plan_until_s is None else f"until {_clock(state.plan_until_s)}"))
    return "\n".join(lines)


def render_kept(node: str, kept: EdgeState | None, now_s: float) -> str:
    """What is known while no edge runs."""
    head = f"{node}: NOT RUNNING; devices are left to their own timers (systemctl start commonwatt-edge)"
    if kept is None:
        return f"{head}\n{_row('disk', 'nothing: it has never run here')}"
    ends_s = [p.control.start_s + p.control.duration_s for p in kept.control.pending if not p.cancelled]
    controls = LiveControls(count=len(ends_s), until_s=max(ends_s, default=None), default=kept.control.default)
    return f"{head}\n{_row('disk', controls_words(controls, now_s))}"


def controls_words(controls: LiveControls, now_s: float) -> str:
    """Which controls and which default are known."""
    if controls.until_s is None or controls.until_s <= now_s:
        known = "none is active or waits"
    else:
        known = f"{controls.count} known, the last one until {_clock(controls.until_s)} (in {span(controls.until_s - now_s)})"
    return f"{known}; default {default_words(controls.default)}"


def default_words(default: DefaultControl | None) -> str:
    """The limits of the default control."""
    if default is None:
        return "not known, so the contract limits hold"
    pairs = (("import", default.import_limit_w), ("export", default.export_limit_w), ("generation", default.generation_limit_w),
             ("load", default.load_limit_w))  # fmt: skip
    return ", ".join(f"{name} <= {value:.0f} W" for name, value in pairs if value is not UNSET) or "without limits"


def span(duration_s: float) -> str:
    """A duration in its two largest units."""
    seconds = math.floor(max(duration_s, 0.0))
    parts = [(seconds // 86400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "min"), (seconds % 60, "s")]
    first = next((index for index, (count, _) in enumerate(parts) if count > 0), len(parts) - 1)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count > 0) or "0 s"


def _device(device: LiveDevice, now_s: float) -> Iterator[str]:
    reading = device.reading
    if reading is None:
        yield "never answered"
    elif device.kind is not DeviceKind.METER:
        yield _power(device.kind, reading.power_w)
        if reading.soc_frac is not None:
            yield f"{100.0 * reading.soc_frac:.0f} % charged"
    else:
        yield _net(reading.power_w)
    setpoint = device.setpoint
    if setpoint is not None and setpoint.power_w is not None:
        yield f"told {_power(device.kind, setpoint.power_w)}"
    elif setpoint is not None and setpoint.limit_w is not None:
        yield f"limited to {setpoint.limit_w:.0f} W"
    if device.silent_cycles > 0 and reading is not None:
        yield f"SILENT for {device.silent_cycles} cycles, last heard {span(now_s - reading.time_s)} ago"
    if device.trouble:
        yield f"TROUBLE: {device.trouble}"


def _power(kind: DeviceKind, power_w: float) -> str:
    if kind is DeviceKind.BATTERY:
        return "idle" if power_w == 0.0 else f"{'charges' if power_w > 0.0 else 'discharges'} {abs(power_w):.0f} W"
    if kind is DeviceKind.PV:
        return f"generates {max(-power_w, 0.0):.0f} W"
    return f"draws {power_w:.0f} W"


def _net(net_import_w: float) -> str:
    return f"{'imports' if net_import_w >= 0.0 else 'exports'} {abs(net_import_w):.0f} W"


def _limit(name: str, limit: Limit) -> str:
    until = "" if limit.expires_s is None else f", until {_clock(limit.expires_s)}"
    return f"{name} <= {limit.limit_w:.0f} W by {limit.source}{until}"


def _row(name: str, text: str) -> str:
    return f"  {name:<12} {text}"


def _clock(time_s: float) -> str:
    return f"{datetime.fromtimestamp(time_s):%Y-%m-%d %H:%M}"
