"""The declaration of Li et al. 2026, section 3.2: adjustable power interval, duration and availability factor."""

import time

import msgspec
import numpy as np
import pytest
from schedule_worlds import START_S, quiet_inputs, random_household, random_inputs

from edge.schedule.flexibility import flexibility
from edge.schedule.follow import follow, self_consumption
from edge.schedule.model import Battery, BatteryState, Departure, Household, Vehicle, VehicleState
from edge.schedule.planner import Plan, Planner
from edge.schedule.sanitise import Sanitised, sanitise
from protocols.messages import FlexibilityDeclaration

BATTERY = Battery(
    name="battery",
    capacity_wh=10_000.0,
    max_charge_w=4000.0,
    max_discharge_w=2000.0,
    charge_efficiency_frac=1.0,
    discharge_efficiency_frac=1.0,
    min_soc_frac=0.0,
)


def test_an_idle_battery_offers_its_power_for_as_long_as_its_charge_lasts() -> None:
    house = Household(batteries=(BATTERY,))
    inputs = quiet_inputs(house, p1_load_w=np.zeros(24), batteries=(BatteryState(soc_frac=0.4),))
    offer = flexibility(house, inputs, follow(house, inputs, self_consumption(house, inputs)), 0)
    assert (offer.increase_w, offer.decrease_w) == (4000.0, 2000.0)
    assert (offer.increase_duration_s, offer.decrease_duration_s) == (1.5 * 3600.0, 2.0 * 3600.0)
    assert offer.availability_frac == 1.0


def test_the_envelope_bounds_what_is_offered_and_leaves_it_lasting_longer() -> None:
    house = Household(batteries=(BATTERY,))
    inputs = quiet_inputs(
        house,
        p1_load_w=np.zeros(24),
        batteries=(BatteryState(soc_frac=0.4),),
        export_limit_w=np.zeros(24),
        import_limit_w=np.full(24, 1000.0),
    )
    offer = flexibility(house, inputs, follow(house, inputs, self_consumption(house, inputs)), 0)
    assert (offer.increase_w, offer.decrease_w, offer.decrease_duration_s) == (1000.0, 0.0, 0.0)
    assert offer.availability_frac == pytest.approx(1.0 / 6.0)


def test_a_car_gives_up_only_the_charging_that_it_can_catch_up() -> None:
    """It charges now at 4 kW; its deadline in 4 hours needs 12 kWh at 7 kW at most: it can wait for 2 whole hours."""
    house = Household(vehicles=(Vehicle(name="car", capacity_wh=40_000.0, max_charge_w=7000.0, charge_efficiency_frac=1.0),))
    leaves = Departure(depart_s=START_S + 4 * 3600.0, return_s=START_S + 10 * 3600.0, needed_soc_frac=0.8)
    inputs = quiet_inputs(house, vehicles=(VehicleState(soc_frac=0.5, departures=(leaves,)),))
    wishes = msgspec.structs.replace(self_consumption(house, inputs), flexible_w=np.full((1, 24), 4000.0))
    offer = flexibility(house, inputs, follow(house, inputs, wishes), 0)
    assert (offer.decrease_w, offer.decrease_duration_s) == (4000.0, 2 * 3600.0)
    assert offer.increase_w == 3000.0
    late = flexibility(house, inputs, follow(house, inputs, self_consumption(house, inputs)), 3)
    assert late.decrease_w == pytest.approx(0.0)


def test_priority_1_and_2_are_never_offered() -> None:
    house = Household()
    inputs = quiet_inputs(house, p2_load_w=np.full(24, 900.0))
    offer = flexibility(house, inputs, follow(house, inputs, self_consumption(house, inputs)), 0)
    assert (offer.increase_w, offer.decrease_w, offer.availability_frac) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("seed", range(20))
def test_every_declaration_is_a_valid_message_and_stays_inside_the_envelope(seed: int) -> None:
    rng = np.random.default_rng(seed)
    household = random_household(rng)
    inputs = random_inputs(rng, household)
    plan = Planner(household, monotonic_s=time.monotonic, deadline_s=60.0).plan(inputs, START_S)
    clean = sanitise(household, inputs)
    assert isinstance(plan, Plan) and isinstance(clean, Sanitised)
    for step in (0, 17, 95):
        offer = flexibility(household, clean.inputs, plan.schedule, step)
        fields = msgspec.structs.asdict(offer) | {"type": "flexibility", "sender": "home-1", "time_s": START_S, "sequence": 1}
        msgspec.convert(fields, FlexibilityDeclaration)
        net_w = plan.schedule.net_import_w[step]
        if offer.increase_w > 0.0:
            assert net_w + offer.increase_w <= inputs.import_limit_w[step] + 1e-6
        if offer.decrease_w > 0.0:
            assert net_w - offer.decrease_w >= -inputs.export_limit_w[step] - 1e-6
