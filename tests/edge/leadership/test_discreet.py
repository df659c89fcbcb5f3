"""An edge that sums in secret says nothing of its power, and obeys nothing under a term that another leader's has replaced."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edge.agent import EdgeAgent
from edge.leadership.settings import AggregationSection, LeadershipSection
from edge.made_plan import Made
from edge.store import Store
from protocols.messages import EnvelopeControl, EnvelopeSchedule, Guarantee
from protocols.signing import Signer, Verifier
from protocols.topics import control_topic, owner
from tests.edge.world import COMMUNITY, COORDINATOR_KEY, NODE, NODE_KEY, World, make_config


class Part:
    """A community part that knows a term and notes plans."""

    def __init__(self, term: int) -> None:
        self.term = term
        self.plans: list[Made] = []

    def planned(self, made: Made) -> None:
        self.plans.append(made)


def agent(world: World, part: Part, folder: Path) -> EdgeAgent:
    config = msgspec.structs.replace(
        make_config(folder, schedule=True),
        leadership=LeadershipSection(enabled=True),
        aggregation=AggregationSection(enabled=True),
    )
    return EdgeAgent(
        config,
        bus=world.bus,
        devices=[world.meter, *world.controlled],
        clock=world.clock,
        store=Store(folder / "state.json", node=NODE, fsync=False),
        signer=Signer(NODE_KEY),
        verifier=Verifier(COMMUNITY, {"coordinator": [COORDINATOR_KEY.public_key()]}),
        community=part,
    )


def relayed(world: World, term: int, sequence: int) -> None:
    now_s = world.clock.now_s()
    control = EnvelopeControl(
        mrid=f"control-{term}",
        creation_time_s=now_s,
        start_s=now_s,
        duration_s=600.0,
        export_limit_w=1000.0 + term,
        import_limit_w=3000.0,
        guarantee=Guarantee.ROBUST,
    )
    message = EnvelopeSchedule(sender="coordinator", time_s=now_s, sequence=sequence, node=NODE, controls=(control,), term=term)
    world.pen.publish(Signer(COORDINATOR_KEY).seal(control_topic(COMMUNITY, NODE, "envelope"), message))


async def test_no_telemetry_plan_forecast_or_flexibility_leaves_the_house(tmp_path: Path) -> None:
    world, part = World(tmp_path), Part(1)
    edge = agent(world, part, tmp_path)
    await edge.start()
    for _ in range(60):
        await edge.step()
        world.live(10.0)
    kinds = {owner(message.topic)[2] for message in world.watcher.receive()}
    assert kinds == {"status"}
    assert part.plans, "the community was told of the plan instead"


async def test_a_control_relayed_under_an_old_term_is_refused_and_one_under_the_present_term_holds(tmp_path: Path) -> None:
    world, part = World(tmp_path), Part(5)
    edge = agent(world, part, tmp_path)
    await edge.start()
    relayed(world, 4, 1)
    record = await edge.step()
    assert any("Fenced" in words for words in record.refusals)
    assert record.limits.export is None or record.limits.export.limit_w != 1004.0
    relayed(world, 5, 2)
    world.live(10.0)
    record = await edge.step()
    assert record.refusals == ()
    world.live(10.0)
    for _ in range(3):
        record = await edge.step()
        world.live(10.0)
    assert record.limits.export is not None and record.limits.export.limit_w == 1005.0
