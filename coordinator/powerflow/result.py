"""What a power flow answers, whichever engine solved it.

Reference directions: connection power is positive into the connection; source power is positive into the network; a line current is a
magnitude, the larger of its two ends; the loss is that of lines and transformers, without the source's own impedance.

Arrays: N scenarios first, then the network's own order of buses, lines, transformers or connections, then K phases, where K is 1 in a
balanced network (one phase stands for all, power is the three-phase total) and 3 in an unbalanced one. A phase that a bus or a line does
not have is NaN.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

from coordinator.errors import PowerFlowError
from coordinator.network.model import ComplexArray, Network

FloatArray = NDArray[np.float64]


class PowerFlowResult(msgspec.Struct, frozen=True, kw_only=True):
    """Solutions of N power flows; see the module for shapes and directions.

    Transformer loading is the sum over the phases of |s|, at the side that carries more, over the rated power: the meaning that the
    envelopes' transformer limit and the bench's plant have too. One winding can carry more than its third of it; the envelopes' option
    `check_windings` holds each winding as well.
    """

    voltage_ln_v: ComplexArray
    voltage_pu: FloatArray
    line_current_a: FloatArray
    transformer_loading_frac: FloatArray
    loss_w: FloatArray
    source_p_w: FloatArray
    source_q_var: FloatArray


def line_loading_frac(network: Network, line_current_a: FloatArray) -> FloatArray:
    """Return (N, lines) of the worst phase current over ampacity; NaN where a line has no ampacity."""
    ampacity_a = np.array([math.nan if line.ampacity_a is None else line.ampacity_a for line in network.lines])
    worst_a: FloatArray = np.fmax.reduce(line_current_a, axis=2)
    loading_frac: FloatArray = worst_a / ampacity_a
    return loading_frac


def no_load_loss_w(network: Network, voltage_ln_v: FloatArray) -> FloatArray:
    """Return (N,) of what the transformers' no-load branches draw at these voltage magnitudes (N, buses, K)."""
    at = [network.bus_index[item.to_bus] for item in network.transformers]
    siemens = np.array([item.no_load_siemens().real if item.in_service else 0.0 for item in network.transformers])
    total_w: FloatArray = 3.0 * (siemens * (voltage_ln_v[:, at] ** 2).mean(axis=2)).sum(axis=1)
    return total_w


def per_phase(network: Network, power: FloatArray) -> FloatArray:
    """Split (..., connections) totals equally over each connection's phases: (..., connections, 3)."""
    share = np.zeros((len(network.connections), 3))
    for row, connection in enumerate(network.connections):
        share[row, [phase - 1 for phase in connection.phases]] = 1.0 / len(connection.phases)
    return power[..., None] * share


def power_array(network: Network, given: FloatArray | None, base: FloatArray) -> FloatArray:
    """Return power as (N, connections) in a balanced network and (N, connections, 3) in an unbalanced one.

    Accepts (connections,), (N, connections) totals and, where phases may differ, (N, connections, 3). None means `base`.
    """
    values = base if given is None else np.asarray(given, dtype=np.float64)
    if values.ndim == 1:
        values = values[None]
    connections = len(network.connections)
    shapes = ((connections,),) if network.is_balanced else ((connections,), (connections, 3))
    if values.shape[1:] not in shapes:
        wanted = " or ".join(f"(N, {', '.join(map(str, shape))})" for shape in shapes)
        raise PowerFlowError(f"power array of network {network.name}: expected shape {wanted}, got {values.shape}")
    if not np.isfinite(values).all():
        raise PowerFlowError(f"power array of network {network.name} holds NaN or infinity")
    if network.is_balanced or values.ndim == 3:
        return values
    return per_phase(network, values)


def phase_mask(network: Network, phases: list[tuple[int, ...]]) -> NDArray[np.bool_]:
    """Return (elements, K) of which phases exist."""
    if network.is_balanced:
        return np.ones((len(phases), 1), dtype=bool)
    return np.array([[phase in own for phase in (1, 2, 3)] for own in phases], dtype=bool).reshape(-1, 3)
