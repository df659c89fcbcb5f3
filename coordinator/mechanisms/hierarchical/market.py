"""Mechanism `hierarchical`: a day cleared by members, community operators, retailer and network operator (source 000).

Each round, prices go down and sums come up:

    level 4  network operator   prices for what a community does to transformers and to the ends of its feeders    (`security`)
    level 3  retailer           one price for what communities exchange, and the fee that it keeps                 (`retailer`)
    level 2  community operator the price inside, at which members trade with each other                           (`operator`)
    level 1  members            schedules of panels, vehicles and batteries                                        (`members`)

The source is known by its abstract alone; who decides what is the abstract's, how is ours: all levels together take the steps of one
primal-dual method for the cost of the whole,

    minimise  sum of members' wear + what communities pay the retailer   subject to   ends and branches within limits,

each level holding only its own variables. It converges from any start with the steps used here (A. Chambolle and T. Pock, A first-order
primal-dual algorithm, 2011; diagonal steps of T. Pock and A. Chambolle, 2011). Two stages:

1. *Market*: levels 1 to 3 settle without the network. What comes out are the exchanges that communities would contract for.
2. *Security*: the network operator looks at them by AC power flow. If they are secure they stand. If not, its prices grow until they are:
   grid services. Service is how far a community moves from the contract of stage 1, and is paid at the price that moved it. Since each
   answer is a best answer to its prices, a community is always paid at least what moving cost it.

No household figure leaves level 1: communities answer sums over all their members, and a community of fewer than ten has no operator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from coordinator.mechanisms.conversation import ConversationError, Step
from coordinator.mechanisms.hierarchical.members import W_PER_KW
from coordinator.mechanisms.hierarchical.operator import MarketResponse, MarketSignal
from coordinator.mechanisms.hierarchical.retailer import Retailer
from coordinator.mechanisms.hierarchical.security import END_SCALE, NetworkOperator, NetworkPrices, NetworkSums, Reach
from coordinator.mechanisms.signals import FloatArray

HOUR_S = 3600.0
MOST_OF_RATING = 5.0
LOST_LOAD_PER_KWH = 10.0
# The retailer's price, the one inside the community and that of its transformer.
OWN_PRICES = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What communities exchange, and what it does at ends, as of one stage."""

    sums: NetworkSums
    price_per_kwh: FloatArray
    inside_per_kwh: FloatArray
    wear: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """Prices of levels 3 and 4 that a conversation begins with, and the contract of its market stage where there is one already."""

    price_per_kwh: FloatArray
    network: NetworkPrices
    first: Contract | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HierarchyState:
    """Prices of levels 3 and 4, what was heard last, and the contract of the market stage once there is one."""

    price_per_kwh: FloatArray
    network: NetworkPrices
    heard: NetworkSums | None
    first: Contract | None
    rounds: int
    market_rounds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Clearing:
    """The outcome, communities in the order of `names`: the contract of the market, the one that is secure, and the prices between them.

    `service_paid` (communities,) is what the network operator pays each of them; `network_per_kwh` (communities, T),
    `end_per_kwh` (ends, T) and `branch_per_kwh` (branches, T) are its prices; `voltage_excess_pu` and `branch_excess_frac` are what its own
    AC power flow says of the result (negative is room).
    """

    names: tuple[str, ...]
    market: Contract
    secure: Contract
    fee_per_kwh: FloatArray
    network_per_kwh: FloatArray
    end_per_kwh: FloatArray
    branch_per_kwh: FloatArray
    service_paid: FloatArray
    voltage_excess_pu: float
    branch_excess_frac: float
    gap_frac: float
    wear: float
    market_rounds: int
    rounds: int

    @property
    def service_w(self) -> FloatArray:
        """How far each community moved for the network (communities, T), positive for taking more."""
        return self.secure.sums.net_w - self.market.sums.net_w


@dataclass(frozen=True, slots=True, kw_only=True)
class HierarchicalMarket:
    """The conversation of levels 3 and 4 with communities, which must be in the order of the network operator's areas.

    `step_w` is how far answers move for a unit of price. Settled when what prices and quantities disagree about is worth less than
    `gap_frac` of the bill, answers move less than `tolerance_frac`, and voltages are within `tolerance_pu` of what is planned. It begins
    with the `opening`, where there is one, and ends with the market stage where it `is_market_alone`.
    """

    names: tuple[str, ...]
    retailer: Retailer
    network: NetworkOperator
    step_s: float
    step_w: float
    gap_frac: float = 1.5e-3
    tolerance_frac: float = 2e-3
    tolerance_pu: float = 1e-3
    opening: Opening | None = None
    is_market_alone: bool = False

    def __post_init__(self) -> None:
        periods = self.retailer.tariff.retail_per_kwh.size
        if len(self.names) != len(self.network.areas) or self.network.periods != periods:
            raise ConversationError(
                f"{len(self.names)} communities and {periods} prices, the network operator has {len(self.network.areas)} areas and "
                f"{self.network.periods} intervals"
            )

    @property
    def groups(self) -> tuple[str, ...]:
        """The communities."""
        return self.names

    @property
    def kwh_per_w(self) -> float:
        """Energy of one watt over one interval."""
        return self.step_s / HOUR_S / W_PER_KW

    def begin(self) -> Step[HierarchyState, MarketSignal, Clearing]:
        """The middle of the standing offers, and no price of the network, where nothing else is given to begin with."""
        opening = self.opening
        if opening is None:
            opening = Opening(price_per_kwh=self.retailer.first_price_per_kwh, network=self.network.silent, first=None)
        start = HierarchyState(
            price_per_kwh=opening.price_per_kwh,
            network=opening.network,
            heard=None,
            first=opening.first,
            rounds=0,
            market_rounds=0,
        )
        return self._step(start)

    def hear(self, state: HierarchyState, responses: Mapping[str, MarketResponse]) -> Step[HierarchyState, MarketSignal, Clearing]:
        """Move prices by what communities answered together; end a stage where nothing is left to agree on."""
        answers = [responses[name] for name in self.names]
        sums = NetworkSums(
            net_w=np.array([answer.net_w for answer in answers]),
            reactive_var=np.array([answer.reactive_var for answer in answers]),
            end_w=np.concatenate([answer.end_w for answer in answers]),
        )
        before = sums if state.heard is None else state.heard
        now = Contract(
            sums=sums,
            price_per_kwh=state.price_per_kwh,
            inside_per_kwh=np.array([answer.inside_per_kwh for answer in answers]),
            wear=sum(answer.wear for answer in answers),
        )
        rounds = state.rounds + 1
        following = replace(state, heard=sums, rounds=rounds)
        gap = self._gap_frac(now)
        quiet = state.heard is not None and gap <= self.gap_frac and _moved_frac(sums, before) <= self.tolerance_frac
        excess = self.excess(sums) if quiet else (np.inf, np.inf)
        if quiet and state.first is None:
            following = replace(following, first=now, market_rounds=rounds)
        if quiet and (self.is_market_alone or self.is_secure(excess)):
            assert following.first is not None
            counted = {"market_rounds": following.market_rounds, "rounds": rounds}
            return Step(state=following, signals={}, outcome=self.clearing(now, following.first, state.network, excess, **counted))
        reach = Reach(
            communities=np.array([answer.reach for answer in answers]), ends=np.concatenate([answer.end_reach for answer in answers])
        )
        ahead_w = (2.0 * sums.net_w - before.net_w).sum(axis=0)
        price = self.retailer.price_after(state.price_per_kwh, ahead_w, 1.0 / (self.step_w * max(reach.communities.sum(), 1.0)))
        network = state.network
        if following.first is not None:
            network = self.network.prices_after(state.network, sums, before, reach, self.step_w)
            self._refuse_what_no_price_moves(network)
        return self._step(replace(following, price_per_kwh=price, network=network))

    def excess(self, sums: NetworkSums) -> tuple[float, float]:
        """By how much sums are beyond what is planned for, by AC power flow: voltage [pu], and branches (of their planned rating)."""
        return self.network.excess(self.network.state(sums))

    def is_secure(self, excess: tuple[float, float]) -> bool:
        """Whether that is little enough."""
        return excess[0] <= self.tolerance_pu and excess[1] <= self.tolerance_frac

    def flaw(self, group: str, response: MarketResponse) -> str | None:
        """Sums must be finite, of the right shapes, and possible at the community's transformer."""
        area = self.network.areas[self.names.index(group)]
        periods, ends = self.network.periods, len(area.ends)
        shapes = {
            "net_w": (response.net_w, (periods,)),
            "reactive_var": (response.reactive_var, (periods,)),
            "end_w": (response.end_w, (ends, periods)),
            "inside_per_kwh": (response.inside_per_kwh, (periods,)),
            "end_reach": (response.end_reach, (ends,)),
        }
        for name, (values, shape) in shapes.items():
            if values.shape != shape or not np.isfinite(values).all():
                return f"answered {name} of shape {values.shape}, expected {shape} finite values"
        if not (np.isfinite(response.reach) and response.reach >= 0.0 and np.all(response.end_reach >= 0.0)):
            return f"answered a reach of {response.reach}, expected a number that is not negative"
        most_w = float(np.abs(response.net_w).max())
        if most_w > MOST_OF_RATING * area.transformer.rated_va:
            return f"answered {most_w:.0f} W, more than {MOST_OF_RATING:g} times what its transformer is rated for"
        return None

    def without(self, groups: frozenset[str]) -> Self:
        """A community that is left out is a background to the network operator, and deals with the retailer at the standing offers."""
        gone = frozenset(self.names.index(name) for name in groups)
        return replace(self, names=tuple(name for name in self.names if name not in groups), network=self.network.without(gone))

    def _gap_frac(self, now: Contract) -> float:
        """What levels 2 to 4 would still gain by moving their prices, of what communities pay."""
        net_w = now.sums.net_w
        spread = now.inside_per_kwh - now.price_per_kwh
        paid = self.retailer.cost(net_w, self.kwh_per_w)
        agreed = float(((now.price_per_kwh * net_w.sum(axis=0)) + (spread * net_w).sum(axis=0)).sum() * self.kwh_per_w)
        gross = float((self.retailer.tariff.retail_per_kwh * np.abs(net_w).sum(axis=0)).sum() * self.kwh_per_w)
        gap = paid - agreed
        assert gap >= -1e-6 * max(gross, 1.0), "a price left what the retailer offers"
        return gap / max(gross, 1e-9)

    def _refuse_what_no_price_moves(self, prices: NetworkPrices) -> None:
        """A price beyond that of lost load says that nobody is left to move."""
        names = [end for area in self.network.areas for end in area.ends]
        for rows, what in ((prices.end_per_kwh, "the end of a feeder"), (prices.branch_per_kwh, "a branch")):
            if rows.size and np.abs(rows).max() > LOST_LOAD_PER_KWH:
                row, interval = np.unravel_index(int(np.argmax(np.abs(rows))), rows.shape)
                where = names[int(row)] if rows is prices.end_per_kwh else self._branch_name(int(row))
                raise ConversationError(
                    f"interval {interval} is infeasible: {where} is not kept within limits at {LOST_LOAD_PER_KWH:g} per kWh ({what}); what "
                    "members can move is not enough"
                )

    def _branch_name(self, row: int) -> str:
        areas = self.network.areas
        return f"transformer {areas[row].transformer.id}" if row < len(areas) else f"line {self.network.watched_lines[row - len(areas)]}"

    def clearing(
        self, now: Contract, first: Contract, prices: NetworkPrices, excess: tuple[float, float], *, market_rounds: int, rounds: int
    ) -> Clearing:
        """The outcome where `first` was the contract of the market, and `now` is the one that the network operator's prices led to."""
        network_per_kwh = self.network.network_price_per_kwh(prices)
        moved = (network_per_kwh * (now.sums.net_w - first.sums.net_w)).sum(axis=1)
        at_ends = (prices.end_per_kwh * (now.sums.end_w - first.sums.end_w)).sum(axis=1)
        np.add.at(moved, self.network.community_of_end, at_ends)
        return Clearing(
            names=self.names,
            market=first,
            secure=now,
            fee_per_kwh=self.retailer.fee_per_kwh,
            network_per_kwh=network_per_kwh,
            end_per_kwh=prices.end_per_kwh,
            branch_per_kwh=prices.branch_per_kwh,
            service_paid=-self.kwh_per_w * moved,
            voltage_excess_pu=excess[0],
            branch_excess_frac=excess[1],
            gap_frac=self._gap_frac(now),
            wear=now.wear,
            market_rounds=market_rounds,
            rounds=rounds,
        )

    def _step(self, state: HierarchyState) -> Step[HierarchyState, MarketSignal, Clearing]:
        network_per_kwh = self.network.network_price_per_kwh(state.network)
        signals = {
            name: MarketSignal(
                is_first=state.rounds == 0,
                is_contract=state.first is not None and state.rounds == state.market_rounds,
                price_per_kwh=state.price_per_kwh,
                fee_per_kwh=self.retailer.fee_per_kwh,
                network_per_kwh=network_per_kwh[place],
                end_per_kwh=state.network.end_per_kwh[self.network.ends_of(place)],
                step_w=self.step_w,
                common=OWN_PRICES + float(self.network.burden[place]),
                end_scale=END_SCALE,
            )
            for place, name in enumerate(self.names)
        }
        return Step(state=state, signals=signals)


def _moved_frac(sums: NetworkSums, before: NetworkSums) -> float:
    """How far answers moved since the last round (root mean square), of what they are."""
    return float(np.sqrt(np.mean((sums.net_w - before.net_w) ** 2)) / max(np.sqrt(np.mean(sums.net_w**2)), 1.0))
