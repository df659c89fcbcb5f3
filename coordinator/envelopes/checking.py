"""The AC check of a set of corners by the full radial power flow, over every node, conductor and transformer."""

from __future__ import annotations

import numpy as np

from coordinator.envelopes.certificate import Check, Extreme
from coordinator.envelopes.monitors import rated_winding_a
from coordinator.envelopes.values import Limits
from coordinator.network.model import Network
from coordinator.powerflow.radial import ComplexArray, FloatArray, FlowSolution, RadialFeeder
from coordinator.powerflow.radial_tree import ROOT

ENGINE = "radial sweep (constant power, full phase matrices)"


def check_corners(feeder: RadialFeeder, limits: Limits, power_va: ComplexArray, method: str) -> Check:
    """Solve the corners (connections, corners) exactly and report the worst of each kind."""
    return judge(feeder.solve(power_va), limits, method)


def judge(flow: FlowSolution, limits: Limits, method: str) -> Check:
    """Report the worst of each kind in a batch of solved snapshots."""
    network = flow.feeder.network
    vmin = network.vmin_pu if limits.vmin_pu is None else limits.vmin_pu
    vmax = network.vmax_pu if limits.vmax_pu is None else limits.vmax_pu
    converged = bool(np.all(flow.converged))
    volts = flow.voltage_pu()
    high = np.where(np.isnan(volts), -np.inf, volts)
    low = np.where(np.isnan(volts), np.inf, volts)
    top, bottom = np.unravel_index(np.argmax(high), high.shape), np.unravel_index(np.argmin(low), low.shape)
    return Check(
        engine=ENGINE,
        method=method,
        corners=int(flow.converged.size),
        converged=converged,
        highest_voltage=_extreme(float(high[top]), vmax, vmax - float(high[top]), _bus_phase(network, top)),
        lowest_voltage=_extreme(float(low[bottom]), vmin, float(low[bottom]) - vmin, _bus_phase(network, bottom)),
        line=_worst_line(flow, limits) if limits.check_lines else None,
        transformer=_worst_transformer(flow, limits),
    )


def _extreme(value: float, limit: float, margin: float, where: str) -> Extreme:
    return Extreme(value=value, limit=limit, margin=margin, where=where)


def _bus_phase(network: Network, index: tuple[np.intp, ...]) -> str:
    phase = "" if network.is_balanced else f" phase {int(index[1]) + 1}"
    return f"voltage at bus {network.buses[int(index[0])].id}{phase}"


def _worst_line(flow: FlowSolution, limits: Limits) -> Extreme | None:
    lines = flow.feeder.network.lines
    rated = np.array([np.inf if line.ampacity_a is None else line.ampacity_a * limits.line_rating_frac for line in lines])
    if not np.any(np.isfinite(rated)):
        return None
    share: FloatArray = flow.line_current_a() / rated[:, None, None]
    worst = np.unravel_index(np.argmax(np.where(np.isnan(share), np.inf, share)), share.shape)
    phase = "" if flow.feeder.network.is_balanced else f" phase {int(worst[1]) + 1}"
    return _extreme(float(share[worst]), 1.0, 1.0 - float(share[worst]), f"current in line {lines[int(worst[0])].id}{phase}")


def _worst_transformer(flow: FlowSolution, limits: Limits) -> Extreme | None:
    """The transformer or, where they are checked, the winding that is loaded most."""
    feeder = flow.feeder
    found: list[tuple[float, str]] = []
    if limits.check_transformers:
        loading_va = flow.transformer_va()
        for position, transformer in enumerate(feeder.network.transformers):
            share = loading_va[position] / (transformer.rated_va * limits.transformer_rating_frac)
            found.append((_worst(share), f"loading of transformer {transformer.id}"))
    for zone in feeder.tree.zones if limits.check_windings else ():
        if zone.transformer != ROOT:
            transformer = feeder.network.transformers[zone.transformer]
            share = np.abs(flow.feed_current_a[zone.first]) / (rated_winding_a(transformer) * limits.transformer_rating_frac)
            found.append((_worst(share), f"current in low-voltage winding of transformer {transformer.id}"))
    if not found:
        return None
    value, where = max(found)
    return _extreme(value, 1.0, 1.0 - value, where)


def _worst(share: FloatArray) -> float:
    """Largest entry, infinite where any is NaN."""
    return float(np.max(np.where(np.isnan(share), np.inf, share)))
