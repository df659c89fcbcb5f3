"""The exact-penalty ladder: what gives way first when not everything can be had.

Every soft requirement has a linear price per kWh. If each rung is strictly above anything that can be gained below it, the optimum is
the lexicographic one: flexible loads (priority 3) yield, then curtailable load (priority 2), then the envelope is breached, and
priority 1, which is data and not a decision, never. "Strictly above" must survive a battery: a kWh withheld at one time may be
carried to another with the round-trip efficiency and the wear of the household's worst battery. The standing losses of a tank are not
counted, so a rung is strict per kWh of electricity, not per kWh of heat drawn many hours later.
"""

from __future__ import annotations

import msgspec
import numpy as np

from edge.schedule.model import Battery, Household, ScheduleInputs

MARGIN = 1.02
"""A rung counts as strictly above the next only with this factor between them."""


class PriorityLadder(msgspec.Struct, frozen=True, kw_only=True):
    """Prices per kWh of electricity, from the last thing to give way to the first, and the highest price of energy they stand above.

    The reserve is what a battery shall hold at the end of the horizon (per stored kWh).
    """

    breach_per_kwh: float = 20.0
    p2_per_kwh: float = 5.0
    vehicle_per_kwh: float = 1.6
    appliance_per_kwh: float = 1.5
    tank_per_kwh: float = 1.4
    reserve_per_kwh: float = 1.2
    price_bound_per_kwh: float = 0.6

    def scaled(self, factor: float) -> PriorityLadder:
        """The same ladder with every price times `factor`."""
        return PriorityLadder(
            breach_per_kwh=self.breach_per_kwh * factor,
            p2_per_kwh=self.p2_per_kwh * factor,
            vehicle_per_kwh=self.vehicle_per_kwh * factor,
            appliance_per_kwh=self.appliance_per_kwh * factor,
            tank_per_kwh=self.tank_per_kwh * factor,
            reserve_per_kwh=self.reserve_per_kwh * factor,
            price_bound_per_kwh=self.price_bound_per_kwh * factor,
        )


def ladder_findings(ladder: PriorityLadder, household: Household) -> list[str]:
    """Every reason why the ladder is not strict for this household; empty when it is."""
    carry_frac = min((b.charge_efficiency_frac * b.discharge_efficiency_frac for b in household.batteries), default=1.0)
    wear = max((_wear(b) for b in household.batteries), default=0.0)
    fuel = max((g.fuel_per_kwh + g.fuel_slope_per_kwh_w * g.max_w for g in household.generators), default=0.0)
    powers_w = [vehicle.max_charge_w for vehicle in household.vehicles] + [tank.max_heat_w for tank in household.tanks]
    powers_w += [appliance.max_w for appliance in household.appliances]
    comfort = household.comfort_slope_per_kwh_w * max(powers_w, default=0.0)
    bottom = _carried(max(ladder.price_bound_per_kwh, fuel), wear, carry_frac) + comfort
    p3_top = max(ladder.vehicle_per_kwh, ladder.appliance_per_kwh, ladder.tank_per_kwh)
    rungs = (
        ("reserve_per_kwh", ladder.reserve_per_kwh, bottom),
        ("vehicle_per_kwh", ladder.vehicle_per_kwh, bottom),
        ("appliance_per_kwh", ladder.appliance_per_kwh, bottom),
        ("tank_per_kwh", ladder.tank_per_kwh, bottom),
        ("p2_per_kwh", ladder.p2_per_kwh, _carried(p3_top, wear, carry_frac)),
        ("breach_per_kwh", ladder.breach_per_kwh, _carried(ladder.p2_per_kwh, wear, carry_frac)),
    )
    return [
        f"ladder: {name} must exceed {MARGIN * below:.4g} (the rung below it, carried through a battery), is {price:.4g}"
        for name, price, below in rungs
        if not price > MARGIN * below
    ]


def ladder_for(ladder: PriorityLadder, inputs: ScheduleInputs, reach_w: float) -> PriorityLadder:
    """The ladder raised as a whole where prices, end values or negotiation terms of these inputs go beyond its price bound.

    `reach_w` bounds the magnitude of net import inside the envelope; with it the proximal term has a highest marginal price.
    """
    worst = max(
        float(np.abs(inputs.buy_price_per_kwh).max()),
        float(np.abs(inputs.sell_price_per_kwh).max()),
        max((abs(state.end_value_per_kwh) for state in inputs.batteries), default=0.0),
    )
    terms = inputs.negotiation
    if terms is not None:
        pull_w = reach_w + float(np.abs(terms.target_w - terms.dual_w).max())
        worst += float(np.abs(terms.extra_price_per_kwh).max()) + terms.rho_per_kwh_w * pull_w
        for _, _, overrun in terms.overruns:
            pull = overrun.rho_per_kwh_w * (reach_w + np.abs(overrun.free_w))
            worst += float((np.abs(overrun.price_per_kwh) + pull).max())
    if worst <= ladder.price_bound_per_kwh:
        return ladder
    return ladder.scaled(worst / ladder.price_bound_per_kwh)


def _carried(price: float, wear: float, carry_frac: float) -> float:
    """What one kWh at the node may cost when it was bought at `price` and carried through a battery."""
    return (price + wear) / carry_frac


def _wear(battery: Battery) -> float:
    """The highest wear of one kWh that goes in and comes out again."""
    return 2.0 * battery.wear_per_kwh + battery.wear_slope_per_kwh_w * (battery.max_charge_w + battery.max_discharge_w)
