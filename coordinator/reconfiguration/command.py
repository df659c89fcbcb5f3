"""`commonwatt-coordinator reconfigure NETWORK`. A shell."""

from __future__ import annotations

import argparse
import csv
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from coordinator.errors import NetworkError
from coordinator.network.cases import load
from coordinator.network.model import Network
from coordinator.network.validate import require_valid
from coordinator.reconfiguration.costs import SwitchingCosts
from coordinator.reconfiguration.loops import FloatArray
from coordinator.reconfiguration.search import reconfigure as search
from coordinator.reconfiguration.switching import SwitchingTariff, plan_switching
from coordinator.reconfiguration.values import Reconfiguration, State, SwitchingPlan

EXIT_DONE, EXIT_NO = 0, 1


def reconfigure(arguments: argparse.Namespace) -> int:
    """Print the best configuration, what was proven about it and, with a profile, the plan over its periods."""
    network = load(arguments.network, vmin_pu=arguments.vmin_pu, vmax_pu=arguments.vmax_pu)
    if arguments.every_line:
        lines = tuple(msgspec.structs.replace(line, is_switchable=True) for line in network.lines)
        network = msgspec.structs.replace(network, lines=lines)
    require_valid(network, require_radial=True)
    base_va = (network.base_power_w() + 1j * network.base_reactive_var())[:, None]
    factors = None if arguments.profile is None else _factors(arguments.profile, arguments.column)
    started_s = time.perf_counter()
    say = _progress(started_s)
    result = search(network, base_va, tree_limit=arguments.tree_limit, say=say)
    plan = None
    if factors is not None and result.feasible:
        power_va = np.asarray(base_va * factors, dtype=np.complex128)
        tariff = SwitchingTariff(
            step_s=arguments.step_s, loss_price_per_kwh=arguments.loss_price, operation_price=arguments.operation_price
        )
        plan = plan_switching(SwitchingCosts(network, power_va), tariff, say=say)
    duration_s = time.perf_counter() - started_s
    if arguments.json:
        document = {"result": result, "plan": plan, "duration_s": duration_s}
        sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
    else:
        words = [*_lines(network, result), *([] if plan is None else _plan_lines(plan)), f"time         {duration_s:.2f} s"]
        sys.stdout.write("\n".join(words) + "\n")
    return EXIT_DONE if result.feasible else EXIT_NO


def _progress(started_s: float) -> Callable[[str], None]:
    """Progress on stderr with the time since the start."""

    def say(words: str) -> None:
        sys.stderr.write(f"{time.perf_counter() - started_s:8.2f} s  {words}\n")

    return say


def _factors(path: Path, column: str) -> FloatArray:
    """The factors by which the base load is scaled, one for each period."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if column not in (reader.fieldnames or ()):
                raise NetworkError(f"{path} line 1: expected a column {column}, got {', '.join(reader.fieldnames or ())}")
            values = [_cell(f"{path} line {reader.line_num} column {column}", row[column]) for row in reader]
    except OSError as error:
        raise NetworkError(f"{path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise NetworkError(f"{path}: cannot be read ({error})") from error
    if not values:
        raise NetworkError(f"{path}: expected one row for each period, got none")
    return np.array(values)


def _cell(where: str, text: str | None) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0.0):
        raise NetworkError(f"{where}: expected a factor of at least 0, got {text!r}")
    return value


def _lines(network: Network, result: Reconfiguration) -> list[str]:
    before, after = result.before, result.after
    saving = ""
    if before.loss_w is not None and after.loss_w is not None and before.loss_w > 0.0:
        saving = f" ({100.0 * (after.loss_w / before.loss_w - 1.0):+.2f} %)"
    ratio = result.exchange_flows / result.exchange_flows_floor
    return [
        f"network      {network.name} ({len(network.buses)} buses, {sum(line.is_switchable for line in network.lines)} switches)",
        f"open         {', '.join(after.open_lines)} (before: {', '.join(before.open_lines)})",
        f"losses       {_kilowatts(before)} -> {_kilowatts(after)}{saving}",
        f"voltage      {_voltage(before)} -> {_voltage(after)} pu (limits {network.vmin_pu:.4f} to {network.vmax_pu:.4f})",
        f"effort       branch exchange solved {result.exchange_flows} power flows; any proof of a local optimum by power flow needs"
        f" {result.exchange_flows_floor} ({ratio:.2f} times)",
        f"optimum      {result.proof.statement}",
        "limits       kept" if after.legal else "limits       BROKEN in every configuration that was tried",
    ]


def _kilowatts(state: State) -> str:
    return "no solution" if state.loss_w is None else f"{state.loss_w / 1e3:.3f} kW"


def _voltage(state: State) -> str:
    return "-" if state.vmin_pu is None or state.vmax_pu is None else f"{state.vmin_pu:.5f}..{state.vmax_pu:.5f}"


def _plan_lines(plan: SwitchingPlan) -> list[str]:
    words = [f"plan         {plan.loss_wh / 1e3:.1f} kWh and {plan.operations} operations in {len(plan.open_lines)} periods"]
    if plan.before_wh is not None:
        words.append(f"  present    {plan.before_wh / 1e3:.1f} kWh")
    if plan.static_wh is not None:
        words.append(f"  one for all {plan.static_wh / 1e3:.1f} kWh with {', '.join(plan.static_open_lines)} open")
    words.append(
        f"  pool       {plan.pool_size} configurations; {len(plan.active_lines)} of {plan.switchable_lines} switches open in any of them"
    )
    previous: tuple[str, ...] = ()
    for period, lines in enumerate(plan.open_lines, start=1):
        if lines != previous:
            words.append(f"  from {period:>3}   open {', '.join(lines)}")
        previous = lines
    return words
