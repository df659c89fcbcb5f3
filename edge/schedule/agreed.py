"""Planning by what the community agreed: its price, and a pull towards the house's own part of the agreement.

The result of a negotiation (`protocols.negotiation`) is a price for each interval and, for each house, the net import that it answered
with last, less its part of what was still too much; the sum of these parts is inside the feeder's limits. A plan that is made later,
from newer forecasts, solves what the house solved in the negotiation,

    min  f(x) + price . x + rho/2 ||x - part||^2

so it moves from its part only as far as the news is worth it, and a price that leaves many schedules equally good does not let all houses
choose the same hour. Beyond the end of the agreement its day is taken to repeat; the next negotiation comes long before.
"""

from __future__ import annotations

import msgspec
import numpy as np

from edge.agreement import Agreement
from edge.schedule.model import Array, Negotiation, ScheduleInputs


def under_agreement(inputs: ScheduleInputs, agreement: Agreement) -> ScheduleInputs:
    """The same inputs under the community's price instead of the house's own tariff."""
    zeros = np.zeros(inputs.steps)
    terms = Negotiation(
        extra_price_per_kwh=_repeated(inputs, agreement, agreement.price_per_kwh),
        target_w=_repeated(inputs, agreement, agreement.net_import_w),
        dual_w=zeros,
        rho_per_kwh_w=agreement.rho_per_kwh_w,
    )
    return msgspec.structs.replace(inputs, buy_price_per_kwh=zeros, sell_price_per_kwh=zeros, negotiation=terms)


def _repeated(inputs: ScheduleInputs, agreement: Agreement, series: tuple[float, ...]) -> Array:
    """Means of a series of the agreement, repeated beyond its ends, over the intervals of the inputs."""
    count = len(series)
    edges = (inputs.start_s - agreement.start_s + inputs.step_s * np.arange(inputs.steps + 1)) / agreement.step_s
    below = np.concatenate(([0.0], np.cumsum(series)))
    rounds = np.floor(edges / count)
    integral = rounds * below[-1] + np.interp(edges - rounds * count, np.arange(count + 1), below)
    return np.asarray(np.diff(integral) * agreement.step_s / inputs.step_s, dtype=np.float64)
