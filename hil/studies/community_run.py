"""Markets of study `community`, held and solved centrally in turn, and what comes of them household by household."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from coordinator.mechanisms.conversation import Talk, converse
from coordinator.mechanisms.sharing.central import CentralMarket
from coordinator.mechanisms.sharing.households import FloatArray
from coordinator.mechanisms.sharing.market import SharingMarket, SharingOutcome
from coordinator.mechanisms.sharing.responder import RespondingHouseholds
from coordinator.mechanisms.sharing.settlement import Settlement, settle
from hil.errors import RunError
from hil.studies.community_case import HOUR_S, CommunityCase
from hil.studies.result import Say

REPEATS = 3
MAX_ROUNDS = 80
CENTRAL_MOST = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One negotiation: how it went, who took part, and its processor seconds."""

    talk: Talk[SharingOutcome]
    outcome: SharingOutcome
    market: SharingMarket
    responders: dict[str, RespondingHouseholds]
    busy_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A street: the negotiation that counts, the median of its times, and the same of the central solve where there was one."""

    case: CommunityCase
    held: Held
    busy_s: float
    optimum: float | None = None
    ratio: float | None = None

    @property
    def gap_frac(self) -> float:
        """Distance to the central optimum."""
        assert self.optimum is not None
        return abs(self.held.outcome.cost - self.optimum) / abs(self.optimum)


def hold(case: CommunityCase) -> Held:
    """Hold one market; building the households' arrays counts as its time."""
    case.feeder.base, case.feeder.fall  # noqa: B018 - the operator knows its feeder before anybody negotiates
    households = case.parts
    started_s = time.process_time()
    responders = {name: RespondingHouseholds(part) for name, part in households.items()}
    market = case.market({name: responder.fixed_w for name, responder in responders.items()})
    talk = converse(market, responders, max_rounds=MAX_ROUNDS)
    busy_s = time.process_time() - started_s
    if talk.outcome is None:
        raise RunError(f"the market of {case.count} households was not settled within {MAX_ROUNDS} rounds")
    return Held(talk=talk, outcome=talk.outcome, market=market, responders=responders, busy_s=busy_s)


def compare(cases: dict[tuple[str, int], CommunityCase], say: Say) -> dict[tuple[str, int], Compared]:
    """Every market and every central solve in turn, several times; both see voltages as corrected at the end of the negotiation. The first
    market of a process pays for what Python loads on the way and is not counted.
    """
    held: dict[tuple[str, int], list[Held]] = {key: [] for key in cases}
    central: dict[tuple[str, int], list[float]] = {key: [] for key in cases}
    optima: dict[tuple[str, int], float] = {}
    hold(next(iter(cases.values())))
    for repeat in range(REPEATS):
        for key, case in cases.items():
            held[key].append(hold(case))
            latest = held[key][-1]
            if case.count <= CENTRAL_MOST:
                optima[key], busy_s = solve_centrally(case, latest)
                central[key].append(busy_s)
            say(f"{repeat + 1} of {REPEATS}: {case.count:,} households, {key[0]}: {latest.talk.rounds} rounds, {latest.busy_s:.3f} s")
    return {
        key: Compared(
            case=case,
            held=held[key][-1],
            busy_s=float(np.median([item.busy_s for item in held[key]])),
            optimum=optima.get(key),
            ratio=_median_ratio(central[key], held[key]) if central[key] else None,
        )
        for key, case in cases.items()
    }


def solve_centrally(case: CommunityCase, held: Held) -> tuple[float, float]:
    """The optimum by Clarabel, and its processor seconds; writing the problem down does not count."""
    central = CentralMarket(households=case.households, market=held.market, rooms=held.market.rooms(held.outcome.net_w))
    program = central.program
    started_s = time.process_time()
    found = program.solve("the market at once")
    busy_s = time.process_time() - started_s
    return central.cost(found), busy_s


def net_of_all(case: CommunityCase, held: Held) -> FloatArray:
    """Net import (N, T) of every household, in the order of the case."""
    net_w = np.empty((case.count, case.households.periods))
    for place, name in enumerate(case.parts):
        responder = held.responders[name]
        net_w[place :: len(held.responders)] = responder.schedules().net_w(responder.households).T
    return net_w


def own_costs(case: CommunityCase, held: Held) -> FloatArray:
    """What schedules cost every household (N,) itself."""
    costs = np.empty(case.count)
    for place, name in enumerate(case.parts):
        responder = held.responders[name]
        costs[place :: len(held.responders)] = responder.schedules().own_costs(responder.households)
    return costs


def settled(case: CommunityCase, held: Held) -> Settlement:
    """What everybody pays."""
    return settle(net_of_all(case, held), case.households.bus, held.outcome, case.tariff, HOUR_S)


def costs_alone(case: CommunityCase, say: Say) -> FloatArray:
    """What each household (N,) pays with its best schedule against the retailer alone: a market of one, on the free network."""
    costs = np.empty(case.count)
    one = replace(case, count=1, strength_frac=1e-9)
    for place in range(case.count):
        single = replace(case.households.part(np.array([place])), bus=np.array([0]))
        responder = RespondingHouseholds(single)
        talk = converse(one.market({"one": responder.fixed_w}), {"one": responder}, max_rounds=MAX_ROUNDS)
        if talk.outcome is None:
            raise RunError(f"household {place} found no schedule of its own within {MAX_ROUNDS} rounds")
        costs[place] = talk.outcome.cost
    say(f"{case.count} households alone: {costs.sum():.2f}")
    return costs


def trace(case: CommunityCase) -> FloatArray:
    """What all together would pay after each round, relative to what they pay in the end; unfinished rounds leave voltages aside."""
    market, responders = case.begin()
    step = market.begin()
    costs: list[float] = []
    while step.outcome is None and len(costs) < MAX_ROUNDS:
        answers = {name: responder.respond(step.signals[name]) for name, responder in responders.items()}
        net_w = sum((answer.net_w for answer in answers.values()), start=np.zeros_like(market.others_w))
        costs.append(sum(answer.own_cost for answer in answers.values()) + case.tariff.cost(net_w.sum(axis=0), HOUR_S))
        step = market.hear(step.state, answers)
    return np.abs(np.array(costs) / costs[-1] - 1.0)


def _median_ratio(central_s: list[float], held: list[Held]) -> float:
    return float(np.median([busy_s / item.busy_s for busy_s, item in zip(central_s, held, strict=True)]))
