"""A load that leaves or comes in several steps: the meter is back inside within 15 s of the first, although each cycle sees only one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from edge.swing import SETTLE_S, Swing
from tests.edge.world import World, control

PLANT_STEP_S = 5.0
GRACE_S = 15.0
EXPORT_W = 1861.0
SEEN_W = (3838.0, 3838.0, 2634.0, 2267.0, 605.0, 309.0, 312.0, 313.0, 439.0, 554.0)
"""Essential load of home_23 of the scenario `leaderless` at 16:48, five seconds each: 282 W outside for 20 s before this was answered."""


async def outside_s(folder: Path, loads_w: tuple[float, ...]) -> float:
    """How long the meter is outside without a break, with a cycle every 10 s in the middle of which the load moves again."""
    world = World(folder, battery_w=0.0)
    world.pv.available_w = 5580.0
    world.load_w = loads_w[0]
    await world.agent.start()
    world.send(control("evening", 0.0, 3600.0, export_w=EXPORT_W, import_w=5014.0))
    await world.run(60.0)
    steps = [loads_w[0], *loads_w, *[loads_w[-1]] * 6]
    for first_w, second_w in zip(steps[1::2], steps[2::2], strict=False):
        await world.agent.step()
        for load_w in (first_w, second_w):
            world.load_w = load_w
            world.live(PLANT_STEP_S, PLANT_STEP_S, inside=lambda: (EXPORT_W, 5014.0))
    return world.worst_outside_s


async def test_an_appliance_that_ends_in_four_steps_leaves_the_envelope_for_no_longer_than_one(tmp_path: Path) -> None:
    assert await outside_s(tmp_path, SEEN_W) <= GRACE_S


@pytest.mark.parametrize("seed", range(20))
async def test_a_load_that_falls_in_equal_steps_is_answered_like_one_that_falls_at_once(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    count, phase = rng.randint(2, 6), rng.randint(1, 2)
    step_w = rng.uniform(250.0, 3600.0 / count)
    loads_w = tuple([3838.0] * phase + [3838.0 - step_w * (index + 1) for index in range(count)])
    assert await outside_s(tmp_path, loads_w) <= GRACE_S


def test_a_movement_is_kept_on_its_side_until_the_house_has_stood_still() -> None:
    swing = Swing()
    swing.observe(0.0, 3000.0)
    swing.observe(10.0, 1000.0)
    assert swing.margins_w(10.0) == (2000.0, 0.0)
    swing.observe(20.0, 1100.0)
    assert swing.margins_w(20.0) == (1900.0, 0.0)
    swing.observe(10.0 + SETTLE_S + 1.0, 1000.0)
    assert swing.margins_w(10.0 + SETTLE_S + 1.0) == (0.0, 0.0)


def test_what_is_old_does_not_count_while_the_meter_is_silent() -> None:
    swing = Swing()
    swing.observe(0.0, 3000.0)
    swing.observe(10.0, 1000.0)
    assert swing.margins_w(SETTLE_S) == (2000.0, 0.0)
    assert swing.margins_w(10.0 + 2.0 * SETTLE_S) == (0.0, 0.0)


def test_a_rise_is_kept_on_the_side_of_the_import() -> None:
    swing = Swing()
    swing.observe(0.0, 400.0)
    swing.observe(1.0, 2400.0)
    assert swing.margins_w(1.0) == (0.0, 2000.0)


def test_the_same_instant_is_seen_once_and_flicker_is_no_movement() -> None:
    swing = Swing()
    swing.observe(0.0, 400.0)
    swing.observe(0.0, 5000.0)
    swing.observe(5.0, 500.0)
    assert swing.margins_w(5.0) == (0.0, 0.0)
