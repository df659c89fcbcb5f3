"""Wishes between two plans: follow the load that is there, not the mean that was planned."""

import pytest

from edge.policy import FlexibleNeed, PlanView, wishes

START_S = 1000.0


def plan(net_w: float, battery_w: float, charge_w: float = 0.0) -> PlanView:
    return PlanView(
        start_s=START_S, step_s=900.0, net_import_w=[net_w], battery_w=[battery_w], draw_w={"car": [charge_w]}, pv_limit_w=[None]
    )


def test_without_a_plan_the_battery_follows_the_meter() -> None:
    assert wishes(None, START_S, 800.0, ()).battery_w == -800.0
    assert wishes(plan(0.0, 0.0), START_S + 900.0, -1200.0, ()).battery_w == 1200.0


@pytest.mark.parametrize(
    ("net_w", "battery_w", "rest_w", "expected_w"),
    [
        (0.0, -900.0, 300.0, -300.0),
        (500.0, -900.0, 300.0, -300.0),
        (500.0, -900.0, 2000.0, -900.0),
        (-500.0, 900.0, -300.0, 300.0),
        (-500.0, 900.0, -3000.0, 900.0),
        (3000.0, 2500.0, 500.0, 2500.0),
        (-3000.0, -2500.0, 500.0, -2500.0),
    ],
)
def test_the_battery_serves_what_is_there_and_holds_only_what_was_meant(
    net_w: float, battery_w: float, rest_w: float, expected_w: float
) -> None:
    assert wishes(plan(net_w, battery_w), START_S, rest_w, ()).battery_w == expected_w


def test_a_charging_power_below_the_minimum_becomes_a_part_of_the_interval_at_the_minimum() -> None:
    view = plan(0.0, 0.0, charge_w=690.0)
    chargers = (FlexibleNeed(name="car", min_w=1380.0),)
    allowed = [wishes(view, START_S + second, 0.0, chargers).flexible_limit_w["car"] for second in range(900)]
    assert sum(allowed) / 900.0 == pytest.approx(690.0, abs=2.0)
    assert set(allowed) == {0.0, 1380.0}
