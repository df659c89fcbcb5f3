"""What envelope a household wishes around its plan, where a mechanism negotiates envelopes as well as net imports. Pure.

For a plan x and a margin m of its own forecast an import limit is at least x + m, an export limit at least -x. Either costs
price L + weight / 2 (L - target)^2 with L between `least_w` and `most_w` (`protocols.messages.LimitTerms`). Of the limits that a plan
allows the best is max(x + m, free), with free = clip(target - price / weight), so the limit leaves the plan's problem as a cost of what
x goes beyond free - m (`edge.schedule.model.Overrun`): slope weight (free - target) + price, which is zero unless `least_w` raised
`free`, and growing with `weight`. Beyond `most_w` no margin is kept, and nothing is charged: an envelope ends at what the connection
carries.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from edge.forecast import QuantileForecast
from edge.schedule.model import Overrun, ScheduleInputs
from protocols.messages import LimitTerms

Array = npt.NDArray[np.float64]

WIDTH_PER_KWH = 1e-3
"""A small price on the width of an envelope, without which any width would be as good (source 001)."""
OUTER_LEVEL = 0.9
DEVIATIONS_AT_OUTER_LEVEL = 1.2815515655446004
"""Of the normal distribution: how many standard deviations the outer level of a forecast is from its median."""
UNREACHED_W = 1e7


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """How far net import may turn out above what the plan goes by, interval by interval of the plan: the distance of the forecast's
    medians from what the plan goes by, and one standard deviation.

    Exports need no margin: what a household gives too much it takes back itself, by throwing sun away or discharging less.
    """

    shift_w: Array
    above_w: Array

    def margin_w(self, deviations: float) -> Array:
        """The margin of the import limit."""
        return np.maximum(self.shift_w + deviations * self.above_w, 0.0)


def spread_of(inputs: ScheduleInputs, load: QuantileForecast, pv: QuantileForecast | None) -> Spread:
    """From the quantiles of load and sun, taken to err independently of each other."""
    base_w = inputs.p1_load_w + inputs.p2_load_w + inputs.pv_w
    middle, high = load.at_level(0.5), load.at_level(OUTER_LEVEL)
    zero = np.zeros_like(middle)
    dim, usual = (zero, zero) if pv is None else (pv.at_level(1.0 - OUTER_LEVEL), pv.at_level(0.5))
    return Spread(shift_w=middle - usual - base_w, above_w=np.hypot(high - middle, usual - dim) / DEVIATIONS_AT_OUTER_LEVEL)


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """One limit under the terms of a round, over the intervals that are asked about: the freest that costs nothing more, and margins."""

    terms: LimitTerms
    margin_w: Array
    price_per_kwh: Array
    weight_per_kwh_w: Array
    free_w: Array

    def overrun(self) -> Overrun:
        """What it costs to plan beyond what the limit leaves free; nothing where the connection ends there anyway."""
        target_w = np.asarray(self.terms.target_w)
        slope = self.price_per_kwh + self.weight_per_kwh_w * (self.free_w - target_w)
        ends = self.free_w >= self.terms.most_w
        return Overrun(
            free_w=np.where(ends, UNREACHED_W, self.free_w - self.margin_w),
            price_per_kwh=np.where(ends, 0.0, np.maximum(slope, 0.0)),
            rho_per_kwh_w=np.where(ends, 0.0, self.weight_per_kwh_w),
        )

    def limit_w(self, towards_w: Array) -> Array:
        """The limit for a plan, counted in its own direction; it always contains the plan."""
        wanted_w = np.clip(np.maximum(towards_w + self.margin_w, self.free_w), self.terms.least_w, self.terms.most_w)
        return np.asarray(np.maximum(wanted_w, towards_w))


def wish(terms: LimitTerms, margin_w: Array) -> Wish:
    """A limit's wish under the terms of a round."""
    price = np.asarray(terms.price_per_kwh) + WIDTH_PER_KWH
    weight = np.asarray(terms.weight_per_kwh_w)
    free_w = np.clip(np.asarray(terms.target_w) - price / weight, terms.least_w, terms.most_w)
    return Wish(terms=terms, margin_w=margin_w, price_per_kwh=price, weight_per_kwh_w=weight, free_w=free_w)

