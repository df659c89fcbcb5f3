"""An edge that sums in secret says nothing of its power, plans by what its community agreed, and obeys nothing under an old term."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edge.agent import EdgeAgent
from edge.agreement import Agreement
from edge.leadership.adherence import Declared
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
        self.agreement: Agreement | None = None

    def planned(self, made: Made) -> None:
        self.plans.append(made)

    def resume(self, agreement: Agreement | None) -> None:
        self.agreement = agreement

    def metered(self, now_s: float, net_import_w: float) -> Declared | None:
        return None


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


async def test_the_plan_that_is_carried_out_follows_what_the_community_agreed(tmp_path: Path) -> None:
    """A tariff that never changes gives little reason to charge; a community that wants 3 kW in the next hours, at a low price, does."""
    world, part = World(tmp_path), Part(1)
    edge = agent(world, part, tmp_path)
    await edge.start()
    world.send_default(5000.0, 10_000.0)
    await edge.step()
    world.live(10.0)
    now_s = world.clock.now_s()
    part.agreement = Agreement(
        number=1,
        start_s=now_s,
        step_s=900.0,
        price_per_kwh=(0.05,) * 8 + (0.40,) * 88,
        net_import_w=(3000.0,) * 8 + (0.0,) * 88,
        rho_per_kwh_w=1e-4,
    )
    await world_runs(world, edge, 600.0)
    alone, together = part.plans[0].view, part.plans[-1].view
    assert max(alone.battery_w[:6]) < 500.0
    assert min(together.battery_w[1:6]) > 1000.0
    assert world.battery.power_w > 1000.0, "and the battery does it"


async def test_an_agreement_outlives_a_power_cycle_and_plans_go_on_by_it(tmp_path: Path) -> None:
    """The house loses its power in the middle of what was agreed: nothing is said again, and the new process knows its part."""
    world, part = World(tmp_path), Part(1)
    edge = agent(world, part, tmp_path)
    await edge.start()
    world.send_default(5000.0, 10_000.0)
    await edge.step()
    world.live(10.0)
    part.agreement = agreed = Agreement(
        number=3,
        start_s=world.clock.now_s(),
        step_s=900.0,
        price_per_kwh=(0.05,) * 8 + (0.40,) * 88,
        net_import_w=(3000.0,) * 8 + (0.0,) * 88,
        rho_per_kwh_w=1e-4,
    )
    await edge.step()
    world.bus.cut()
    world.bus, after = world.broker.client(), Part(1)
    again = agent(world, after, tmp_path)
    assert after.agreement == agreed, "on the disk with the cycle that heard it"
    await again.start()
    await world_runs(world, again, 600.0)
    assert min(after.plans[-1].view.battery_w[1:6]) > 1000.0 and world.battery.power_w > 1000.0
    after.agreement = None
    await again.step()
    assert Store(tmp_path / "state.json", node=NODE).load()[0].agreement is None, "what has run out is forgotten"


async def world_runs(world: World, edge: EdgeAgent, duration_s: float) -> None:
    for _ in range(round(duration_s / 10.0)):
        await edge.step()
        world.live(10.0)
