"""Envelopes that were agreed, as limits for the intervals in which controls are published. Pure.

What was agreed is what a node has at least, as long as the network lets it. What the network has left then goes to whoever wants more by
the operator's rule, and so does what a node gets that is in no agreement.
"""

from __future__ import annotations

import math

from coordinator.demand import LimitPair
from coordinator.market.desk import Concluded
from coordinator.mechanisms.dfe.negotiation import Agreement


def agreed_limits(done: Concluded | None, step_s: float, start_s: float, end_s: float) -> dict[str, LimitPair]:
    """The largest limits that were agreed for any part of [start_s, end_s), by node; none where the agreement does not cover all of it."""
    if done is None or not isinstance(done.outcome, Agreement):
        return {}
    first = math.floor((start_s - done.start_s) / step_s)
    last = math.ceil((end_s - done.start_s) / step_s)
    outcome = done.outcome
    if not 0 <= first < last <= outcome.net_w.shape[1]:
        return {}
    return {
        name: LimitPair(
            import_w=float(outcome.import_limit_w[place, first:last].max()), export_w=float(outcome.export_limit_w[place, first:last].max())
        )
        for place, name in enumerate(outcome.names)
    }
