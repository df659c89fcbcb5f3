"""An edge that a mechanism asks answers with its own schedule, and plans by what was agreed; it answers nothing else."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge.config import EdgeConfig, MarketSection, check_config
from edge.leadership.settings import LeadershipSection
from edge.market import Respondent
from edge.schedule.model import Household, ScheduleInputs
from edge.schedule.planner import Planner
from protocols import codec
from protocols.messages import MarketAnswer, MarketAsk
from protocols.signing import Sequencer, Signer
from protocols.topics import control_topic, owner
from tests.edge.world import COMMUNITY, COORDINATOR_KEY, NODE, World, make_config

INTERVALS = 96


def market_config(folder: Path) -> EdgeConfig:
    return msgspec.structs.replace(make_config(folder, schedule=True), market=MarketSection(enabled=True))


def asked_of(world: World, number: int, round_: int, *, price: float = 0.2, towards_w: float = 500.0) -> MarketAsk:
    now_s = world.clock.now_s()
    return MarketAsk(
        sender="coordinator", time_s=now_s, sequence=int(now_s * 1000) + round_, node=NODE, mechanism="p2p", negotiation=number,
        round=round_, start_s=now_s // 900.0 * 900.0, step_s=900.0, weight_per_kwh_w=1e-4, price_per_kwh=(price,) * INTERVALS,
        target_w=(towards_w,) * INTERVALS,
    )  # fmt: skip


def ask(world: World, number: int, round_: int, *, price: float = 0.2, towards_w: float = 500.0, **changes: object) -> None:
    message = msgspec.structs.replace(asked_of(world, number, round_, price=price, towards_w=towards_w), **changes)
    world.pen.publish(Signer(COORDINATOR_KEY).seal(control_topic(COMMUNITY, NODE, "ask"), message))


def answers(world: World) -> list[MarketAnswer]:
    found = []
    for message in world.watcher.receive():
        if owner(message.topic)[2] == "answer":
            content = codec.decode(message.payload, topic=message.topic)
            assert isinstance(content, MarketAnswer)
            found.append(content)
    return found


async def ready(folder: Path) -> World:
    world = World(folder, config=market_config(folder))
    await world.agent.start()
    world.send_default(5000.0, 10_000.0)
    await world.run(30.0)
    answers(world)
    return world


async def test_an_answer_moves_towards_a_target_as_far_as_the_price_lets_it(tmp_path: Path) -> None:
    world = await ready(tmp_path)
    ask(world, 5, 0, towards_w=500.0)
    await world.run(20.0)
    ask(world, 5, 1, towards_w=2500.0)
    await world.run(20.0)
    first, second = answers(world)
    assert (first.round, second.round) == (0, 1)
    assert len(first.net_import_w) == INTERVALS
    assert np.mean(second.net_import_w) > np.mean(first.net_import_w) + 50.0


def broken_clock() -> float:
    raise OSError("no clock")


async def test_an_answer_that_cannot_be_computed_is_missing_once_and_does_not_stop_the_cycles_after_it(tmp_path: Path) -> None:
    world = await ready(tmp_path)
    part = world.agent.market
    assert part is not None
    ask(world, 5, 0)
    await world.run(20.0)
    assert part.respondent is not None
    whole = part.respondent
    part.respondent = Respondent(whole.household, whole.inputs, broken_clock, 5.0)
    part.asked(asked_of(world, 5, 1))
    assert part.step(NODE, Sequencer(0.0), background=True) is None
    assert part._job is not None
    await asyncio.wait([part._job])
    with pytest.raises(OSError, match="no clock"):
        part.step(NODE, Sequencer(0.0), background=True)
    assert part.step(NODE, Sequencer(0.0), background=True) is None


async def test_where_the_mechanism_secures_the_network_an_answer_is_bounded_by_the_connection_alone(tmp_path: Path) -> None:
    world = await ready(tmp_path)
    world.send_default(0.0, 5000.0, mrid="nothing-out")
    await world.run(1000.0)
    ask(world, 6, 0, price=5.0, towards_w=0.0)
    await world.run(20.0)
    ask(world, 7, 0, price=5.0, towards_w=0.0, secures=True)
    await world.run(20.0)
    bounded, free = answers(world)
    assert min(bounded.net_import_w) >= -1.0
    assert min(free.net_import_w) < -1000.0


async def test_a_house_that_missed_the_beginning_of_a_negotiation_does_not_answer_in_it(tmp_path: Path) -> None:
    world = await ready(tmp_path)
    ask(world, 5, 3)
    await world.run(20.0)
    assert answers(world) == []


async def test_an_ask_about_another_node_or_an_older_negotiation_is_not_answered(tmp_path: Path) -> None:
    world = await ready(tmp_path)
    ask(world, 9, 0)
    await world.run(20.0)
    assert len(answers(world)) == 1
    ask(world, 4, 0)
    await world.run(20.0)
    ask(world, 10, 0, node="home-02")
    records = await world.run(20.0)
    assert answers(world) == []
    assert any("a control for node 'home-02'" in words for record in records for words in record.refusals)


async def test_plans_go_by_an_agreement_until_it_has_run_out(tmp_path: Path) -> None:
    world = await ready(tmp_path)
    ask(world, 5, 0)
    await world.run(20.0)
    start_s = world.clock.now_s() // 900.0 * 900.0
    ask(
        world, 5, 1, final=True, agreed=True, start_s=start_s,
        price_per_kwh=(0.05,) * 8 + (0.40,) * 88, target_w=(3000.0,) * 8 + (0.0,) * 88,
    )  # fmt: skip
    await world.run(600.0)
    assert world.battery.power_w > 1000.0
    part = world.agent.market
    assert part is not None and part.agreement is not None
    agreed = part.agreement
    await world.power_cycle()
    part = world.agent.market
    assert part is not None and part.agreement == agreed, "the new process knows what the old one agreed"
    world.clock.advance(25 * 3600.0)
    assert part.agreement is None


async def test_a_negotiation_without_an_agreement_leaves_the_house_to_its_tariff(tmp_path: Path) -> None:
    world = await ready(tmp_path)
    ask(world, 5, 0)
    await world.run(20.0)
    ask(world, 5, 1, final=True, agreed=False, price_per_kwh=(0.0,), target_w=(0.0,))
    await world.run(20.0)
    part = world.agent.market
    assert part is not None and part.agreement is None


async def test_a_house_without_a_market_answers_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, config=make_config(tmp_path, schedule=True))
    await world.agent.start()
    world.send_default(5000.0, 10_000.0)
    await world.run(30.0)
    ask(world, 5, 0)
    await world.run(20.0)
    assert answers(world) == []


def test_market_and_leadership_are_refused_together(tmp_path: Path) -> None:
    both = msgspec.structs.replace(
        market_config(tmp_path),
        leadership=LeadershipSection(enabled=True),
        identity=msgspec.structs.replace(market_config(tmp_path).identity, key_file="k", coordinator_keys=("c",)),
    )
    assert "at $.market.enabled" in str(check_config(both))
    without_plan = msgspec.structs.replace(make_config(tmp_path, schedule=False), market=MarketSection(enabled=True))
    assert "at $.market.enabled" in str(check_config(without_plan))


def test_the_own_cost_of_a_house_without_devices_is_nothing() -> None:
    from edge.market import own_cost
    from edge.schedule.planner import Plan

    steps = 8
    inputs = ScheduleInputs(
        start_s=0.0, step_s=900.0, p1_load_w=np.full(steps, 400.0), p2_load_w=np.zeros(steps), pv_w=np.zeros(steps),
        import_limit_w=np.full(steps, np.inf), export_limit_w=np.full(steps, np.inf),
        buy_price_per_kwh=np.full(steps, 0.3), sell_price_per_kwh=np.full(steps, 0.05),
    )  # fmt: skip
    planned = Planner(Household(), monotonic_s=lambda: 0.0).plan(inputs, 0.0)
    assert isinstance(planned, Plan)
    assert own_cost(Household(), inputs, planned.schedule) == pytest.approx(0.0)
