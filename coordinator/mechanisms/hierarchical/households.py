"""The four levels with households that answer for themselves: each asked by name, each with its own schedule (`hierarchical`, held live).

In `members` a whole community answers in a few array operations, because its devices are known. Controllers that run in houses know what
they own and nobody else does, and they take a minute to answer; so here a household answers one price and one pull (`signals.NetSignal`)
with the net import of its schedule of least cost, and as few rounds as possible are asked. Levels 2 to 4 are the same as in a study.

What they agree on in a round is a plan for every household, its *target* z (households, T), as close as their prices allow to what the
household answered x and to the price p that it paid. One round is one round of consensus ADMM (S. Boyd et al., 2011, sections 3 and 7.3),

    x_i = argmin own cost_i(x) + p_i x + weight / 2 (x - z_i)^2                            level 1, over the bus
    z   = argmin cost of all net imports at the retailer + weight / 2 |z - x - p / weight|^2
          subject to ends and branches within limits                                        levels 2 to 4, among themselves
    p   = p + weight (x - z),

and the problem of levels 2 to 4 is again a conversation of sums (`market.HierarchicalMarket`): level 2 stands for its households by what
they wish for (`Wishes`), and tells levels 3 and 4 what that adds up to. It begins with the prices of the round before.

The two stages are those of `market`: first without the network, which gives the contract; where the network operator's AC power flow finds
that the households' own answers are not secure, its prices come in, and how far a household moves from its contract is service, paid at the
price that moved it. Households that do not take part count with what they plan by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from coordinator.mechanisms.consensus import Balancing, Consensus
from coordinator.mechanisms.conversation import ConversationError, Step
from coordinator.mechanisms.hierarchical.areas import Area
from coordinator.mechanisms.hierarchical.market import HOUR_S, Clearing, Contract, HierarchicalMarket, Opening
from coordinator.mechanisms.hierarchical.members import W_PER_KW, Looked, Sums
from coordinator.mechanisms.hierarchical.operator import LEAST_MEMBERS, CommunityOperator
from coordinator.mechanisms.hierarchical.retailer import Retailer
from coordinator.mechanisms.hierarchical.security import NetworkOperator, NetworkSums
from coordinator.mechanisms.signals import FloatArray, NetResponse, NetSignal, flaw_of

BALANCING = Balancing(ratio=3.0, factor=2.0, every=3, last_round=60)
MOST_ROUNDS_ABOVE = 400
GAP_FRAC_ABOVE, TOLERANCE_FRAC_ABOVE, TOLERANCE_PU_ABOVE = 2e-4, 2e-4, 1e-4


@dataclass(slots=True, kw_only=True)
class Wishes:
    """What level 2 plans for its households, moved by prices from what they wish for: a `Crowd` that answers without being asked again.

    `wish_w` and `start_w` (households, T); `weight` in price per kWh for each watt away from a wish; `end_weight` (households, ends);
    `beside` are the sums of everybody of this community who does not take part.
    """

    name: str
    wish_w: FloatArray
    start_w: FloatArray
    weight: float
    var_per_w: float
    end_weight: FloatArray
    beside: Sums
    plan_w: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    @property
    def count(self) -> int:
        """How many households take part."""
        return len(self.wish_w)

    @property
    def periods(self) -> int:
        """How many intervals there are."""
        return int(self.wish_w.shape[1])

    @property
    def reach(self) -> tuple[float, FloatArray]:
        """Each household counts once."""
        return float(self.count), np.asarray(np.abs(self.end_weight).sum(axis=0))

    def restart(self) -> None:
        """Back to what was planned in the round before."""
        self.plan_w = self.start_w

    def contract(self) -> None:
        """Contracts are made of what households answer, not of what is planned for them."""

    def answer(self, price_per_kwh: FloatArray, end_price_per_kwh: FloatArray, step_w: float, looked: Looked) -> Sums:
        """One proximal step towards the plan that is best at these prices."""
        step = (step_w / (looked.common + looked.end_scale * np.abs(self.end_weight).sum(axis=1)))[:, None]
        price = price_per_kwh + self.end_weight @ end_price_per_kwh
        self.plan_w = (self.plan_w + step * (self.weight * self.wish_w - price)) / (1.0 + step * self.weight)
        return self.sums()

    def sums(self) -> Sums:
        """What the present plans add up to, with those beside."""
        return sums_of(self.plan_w, self.end_weight, self.var_per_w, self.beside)


def sums_of(net_w: FloatArray, end_weight: FloatArray, var_per_w: float, beside: Sums) -> Sums:
    """What net imports (households, T) of a community add up to, with those who are beside it."""
    return Sums(
        net_w=net_w.sum(axis=0) + beside.net_w,
        reactive_var=var_per_w * net_w.sum(axis=0) + beside.reactive_var,
        end_w=end_weight.T @ net_w + beside.end_w,
        wear=beside.wear,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HouseholdState:
    """Where households and level 2 stand; how far prices inside lie from the retailer's (communities, T); what levels 3 and 4 begin the
    next round with; and what households contracted for (households, T), once the market is settled.
    """

    plans: Consensus
    spread_per_kwh: FloatArray
    opening: Opening
    market_rounds: int
    contract_w: FloatArray | None

    @property
    def weight(self) -> float:
        """The weight of the present round."""
        return self.plans.weight


@dataclass(frozen=True, slots=True, kw_only=True)
class HouseholdClearing:
    """The outcome: net imports of the contract and of what is secure, prices, the part of them that is the network's (households, T), own
    costs (households,), and what each is paid for service in each interval (households, T). `levels` is what levels 2 to 4 know of it.
    """

    names: tuple[str, ...]
    net_w: FloatArray
    market_w: FloatArray
    price_per_kwh: FloatArray
    moving_per_kwh: FloatArray
    own_costs: FloatArray
    service_paid: FloatArray
    community: tuple[int, ...]
    levels: Clearing

    @property
    def inside_per_kwh(self) -> FloatArray:
        """The price at which each household trades with the others of its community (households, T)."""
        return np.asarray(self.levels.secure.inside_per_kwh[list(self.community)])


@dataclass(frozen=True, slots=True, kw_only=True)
class HouseholdMarket:
    """The conversation of levels 2 to 4 with households, by name; `community` is the area of the network operator that each lives in.

    `end_weight` (households, ends of its area) of each; `alone_w` (households, T) is what it plans by itself and is counted with where it
    does not take part; it can neither take nor give more than `most_w`. `var_per_w` is taken for reactive power: of the sign of the net
    import, so that it makes every voltage and every branch worse. `beside` (areas) are customers who were never asked.
    """

    names: tuple[str, ...]
    community: tuple[int, ...]
    end_weight: tuple[FloatArray, ...]
    alone_w: FloatArray
    most_w: FloatArray
    beside: tuple[Sums, ...]
    var_per_w: float
    retailer: Retailer
    network: NetworkOperator
    step_s: float
    weight: float
    tolerance_frac: float = 5e-3
    tolerance_pu: float = 1e-3
    least_members: int = LEAST_MEMBERS

    def __post_init__(self) -> None:
        for place, area in enumerate(self.network.areas):
            count = self.community.count(place)
            if count < self.least_members:
                raise ConversationError(
                    f"community {area.transformer.id} has {count} members, expected at least {self.least_members}: its sums would give "
                    "them away"
                )
        wrong = np.argwhere(~np.isfinite(self.alone_w))
        if wrong.size or self.alone_w.shape != (len(self.names), self.periods):
            where = f"household {self.names[wrong[0][0]]}, interval {wrong[0][1]}" if wrong.size else f"shape {self.alone_w.shape}"
            raise ConversationError(f"what a household plans by itself is not a finite number for each interval ({where})")

    @property
    def groups(self) -> tuple[str, ...]:
        """The households."""
        return self.names

    @property
    def periods(self) -> int:
        """How many intervals there are."""
        return int(self.retailer.tariff.retail_per_kwh.size)

    @property
    def kwh_per_w(self) -> float:
        """Energy of one watt over one interval."""
        return self.step_s / HOUR_S / W_PER_KW

    def begin(self) -> Step[HouseholdState, NetSignal, HouseholdClearing]:
        """What households plan by themselves, at the middle of the standing offers."""
        price = self.retailer.first_price_per_kwh
        opening = Opening(price_per_kwh=price, network=self.network.silent, first=None)
        start = HouseholdState(
            plans=Consensus(target_w=self.alone_w, price_per_kwh=np.tile(price, (len(self.names), 1)), weight=self.weight),
            spread_per_kwh=np.zeros((len(self.network.areas), self.periods)),
            opening=opening,
            market_rounds=0,
            contract_w=None,
        )
        return self._step(start)

    def hear(
        self, state: HouseholdState, responses: Mapping[str, NetResponse]
    ) -> Step[HouseholdState, NetSignal, HouseholdClearing]:
        """Agree above on new plans for these answers; end a stage where answers and plans are the same."""
        answer_w = np.array([responses[name].net_w for name in self.names])
        opening, spread, target_w = self._levels(state, state.plans.wish_w(answer_w))
        apart, moved = _rms(answer_w - target_w), _rms(target_w - state.plans.target_w)
        plans = state.plans.after(answer_w, target_w)
        following = replace(state, plans=plans, spread_per_kwh=spread, opening=opening)
        if max(apart, moved) > self.tolerance_frac * max(_rms(answer_w), 1.0):
            return self._step(replace(following, plans=BALANCING.balanced(plans, apart, moved)))
        costs = np.array([responses[name].own_cost for name in self.names])
        now = self._contract(following, answer_w, float(costs.sum()))
        above = self._above(opening)
        if following.contract_w is None:
            following = replace(following, contract_w=answer_w, market_rounds=plans.rounds, opening=replace(opening, first=now))
        excess = above.excess(now.sums)
        if not above.is_secure(excess):
            return self._step(following)
        return Step(state=following, signals={}, outcome=self._clearing(following, answer_w, costs, now, excess))

    def flaw(self, group: str, response: NetResponse) -> str | None:
        """A response must be a finite number for every interval, and one that the household's connection can carry."""
        flaw = flaw_of(response, self.periods)
        if flaw is not None:
            return flaw
        largest_w, most_w = float(np.abs(response.net_w).max()), float(self.most_w[self.names.index(group)])
        if largest_w > most_w:
            return f"answered {largest_w:.0f} W, more than the {most_w:.0f} W that its connection carries"
        return None

    def without(self, groups: frozenset[str]) -> Self:
        """A household that is left out is counted with what it plans by itself; a community of which too few are left is none any more."""
        kept = [row for row, name in enumerate(self.names) if name not in groups]
        beside = list(self.beside)
        for row, name in enumerate(self.names):
            if name in groups:
                place = self.community[row]
                beside[place] = sums_of(self.alone_w[row : row + 1], self.end_weight[row][None], self.var_per_w, beside[place])
        return replace(
            self,
            names=tuple(self.names[row] for row in kept),
            community=tuple(self.community[row] for row in kept),
            end_weight=tuple(self.end_weight[row] for row in kept),
            alone_w=self.alone_w[kept],
            most_w=self.most_w[kept],
            beside=tuple(beside),
        )

    def cost(self, clearing: HouseholdClearing) -> float:
        """What households spend themselves, and what communities pay the retailer."""
        return float(clearing.own_costs.sum()) + self.retailer.cost(clearing.levels.secure.sums.net_w, self.kwh_per_w)

    def rows(self, place: int) -> list[int]:
        """The households of a community."""
        return [row for row, community in enumerate(self.community) if community == place]

    def _levels(self, state: HouseholdState, wish_w: FloatArray) -> tuple[Opening, FloatArray, FloatArray]:
        """Levels 2 to 4 agree: the prices that lead to it, how far those inside lie from the retailer's, and plans (households, T)."""
        market = replace(
            self._above(state.opening),
            step_w=1.0 / state.weight,
            gap_frac=GAP_FRAC_ABOVE,
            tolerance_frac=TOLERANCE_FRAC_ABOVE,
            tolerance_pu=TOLERANCE_PU_ABOVE,
        )
        wishes = [self._wishes(state, wish_w, place) for place in range(len(self.network.areas))]
        operators = {
            own.name: CommunityOperator(members=own, least_members=self.least_members, opening_per_kwh=spread)
            for own, spread in zip(wishes, state.spread_per_kwh, strict=True)
        }
        step = market.begin()
        while step.outcome is None and step.state.rounds < MOST_ROUNDS_ABOVE:
            step = market.hear(step.state, {name: operator.respond(step.signals[name]) for name, operator in operators.items()})
        plan_w = np.empty_like(wish_w)
        for place, own in enumerate(wishes):
            plan_w[self.rows(place)] = own.plan_w
        spread = np.array([operator.spread_per_kwh for operator in operators.values()])
        return replace(state.opening, price_per_kwh=step.state.price_per_kwh, network=step.state.network), spread, plan_w

    def _wishes(self, state: HouseholdState, wish_w: FloatArray, place: int) -> Wishes:
        rows, area = self.rows(place), self.network.areas[place]
        return Wishes(
            name=area.transformer.id,
            wish_w=wish_w[rows],
            start_w=state.plans.target_w[rows],
            weight=state.weight,
            var_per_w=self.var_per_w,
            end_weight=self._weights(rows, area),
            beside=self.beside[place],
        )

    def _above(self, opening: Opening) -> HierarchicalMarket:
        """Levels 3 and 4."""
        return HierarchicalMarket(
            names=tuple(area.transformer.id for area in self.network.areas),
            retailer=self.retailer,
            network=self.network,
            step_s=self.step_s,
            step_w=1.0 / self.weight,
            tolerance_frac=self.tolerance_frac,
            tolerance_pu=self.tolerance_pu,
            opening=opening,
            is_market_alone=opening.first is None,
        )

    def _weights(self, rows: list[int], area: Area) -> FloatArray:
        return np.array([self.end_weight[row] for row in rows]).reshape(len(rows), len(area.ends))

    def _contract(self, state: HouseholdState, answer_w: FloatArray, own_cost: float) -> Contract:
        """What answers add up to, and the prices that they were given at."""
        sums = []
        for place, area in enumerate(self.network.areas):
            rows = self.rows(place)
            sums.append(sums_of(answer_w[rows], self._weights(rows, area), self.var_per_w, self.beside[place]))
        return Contract(
            sums=NetworkSums(
                net_w=np.array([item.net_w for item in sums]),
                reactive_var=np.array([item.reactive_var for item in sums]),
                end_w=np.concatenate([item.end_w for item in sums]),
            ),
            price_per_kwh=state.opening.price_per_kwh,
            inside_per_kwh=state.opening.price_per_kwh + state.spread_per_kwh,
            wear=own_cost,
        )

    def _clearing(
        self, state: HouseholdState, answer_w: FloatArray, costs: FloatArray, now: Contract, excess: tuple[float, float]
    ) -> HouseholdClearing:
        first, contract_w, prices = state.opening.first, state.contract_w, state.opening.network
        assert first is not None and contract_w is not None
        network_per_kwh = self.network.network_price_per_kwh(prices)
        moving = np.array(
            [
                network_per_kwh[place] + weight @ prices.end_per_kwh[self.network.ends_of(place)]
                for place, weight in zip(self.community, self.end_weight, strict=True)
            ]
        )
        return HouseholdClearing(
            names=self.names,
            net_w=answer_w,
            market_w=contract_w,
            price_per_kwh=state.plans.price_per_kwh,
            moving_per_kwh=moving,
            own_costs=costs,
            service_paid=-self.kwh_per_w * moving * (answer_w - contract_w),
            community=self.community,
            levels=self._above(state.opening).clearing(
                now, first, prices, excess, market_rounds=state.market_rounds, rounds=state.plans.rounds
            ),
        )

    def _step(self, state: HouseholdState) -> Step[HouseholdState, NetSignal, HouseholdClearing]:
        return Step(state=state, signals=state.plans.signals(self.names))


def _rms(values: FloatArray) -> float:
    return float(np.sqrt(np.mean(values**2)))
