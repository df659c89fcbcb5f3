"""Rows of the bench: envelopes of largest volume on feeders of 600 and 5,000 buses, from the problem to the certificate.

The feeders are grown from a seed (`hil.networks.grown`), planned so that voltages and cables bind both; every bus may export and import
three times its peak and must be given 0.4 of it. Each feeder is prepared once, as the service does; one interval is computed several
times over demands that differ. Times are CPU time of the process, median. A result without a certificate would be counted as missed.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from coordinator.envelopes import (
    AllocationRule,
    EnvelopeProblem,
    EnvelopeResult,
    Limits,
    Participant,
    compute_envelopes,
    prepare,
)
from coordinator.network.model import Network
from hil.errors import HilError
from hil.networks.grown import grown_feeder

CASES = ((600, 60.0), (5000, 1000.0))
INTERVALS = 7


def envelope_rows(only: list[str] | None, seed: int = 1) -> list[dict[str, Any]]:
    """One row per feeder whose name is asked for."""
    names = {f"envelopes_{buses}": (buses, target_ms) for buses, target_ms in CASES}
    wanted = [name for name in names if not only or any(part in name or name in part for part in only)]
    return [_row(name, *names[name], seed) for name in wanted]


def problem_of(network: Network, *, spread: float = 0.0, seed: int = 0) -> EnvelopeProblem:
    """Everybody may export and import three times its peak, give or take `spread`."""
    factor = 3.0 * np.random.default_rng(seed).uniform(1.0 - spread, 1.0 + spread, (len(network.connections), 2))
    return EnvelopeProblem(
        network=network,
        participants=tuple(
            Participant(
                connection=item.id, max_import_w=float(up) * item.p_w, max_export_w=float(down) * item.p_w,
                import_floor_w=0.4 * item.p_w, q_per_w=item.q_var / item.p_w,
            )
            for item, (up, down) in zip(network.connections, factor, strict=True)
        ),
        rule=AllocationRule.MAX_VOLUME,
    )  # fmt: skip


def _row(name: str, buses: int, target_ms: float, seed: int) -> dict[str, Any]:
    network = grown_feeder(buses, seed=seed)
    prepared = prepare(network, Limits())
    spent_ms: list[float] = []
    corners, binding = 0, set[str]()
    for interval in range(INTERVALS):
        problem = problem_of(network, spread=0.2, seed=interval)
        begun_s = time.process_time()
        result = compute_envelopes(problem, prepared)
        spent_ms.append(1e3 * (time.process_time() - begun_s))
        if not isinstance(result, EnvelopeResult) or not result.certificate.check.method.startswith("monotonicity proved"):
            raise HilError(f"{name}: interval {interval} has no certificate of monotonicity")
        corners = max(corners, result.certificate.check.corners)
        binding |= {item.export_bound_by.split()[0] for item in result.envelopes}
    value = float(np.median(spent_ms))
    note = f"median of {INTERVALS} intervals; {buses} connections, {corners} corners, bound by {', '.join(sorted(binding))}"
    return {"name": name, "value": value, "unit": "ms CPU", "target": f"<= {target_ms:g}", "met": value <= target_ms, "note": note}
