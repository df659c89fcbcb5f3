"""Clearing a day of study `hierarchical594`, and having it judged by engines that share no code with the mechanism."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from coordinator.mechanisms.conversation import Talk, converse
from coordinator.mechanisms.hierarchical.alone import Alone, alone
from coordinator.mechanisms.hierarchical.market import Clearing, HierarchicalMarket
from coordinator.mechanisms.hierarchical.operator import CommunityOperator
from coordinator.mechanisms.hierarchical.retailer import Retailer
from coordinator.mechanisms.hierarchical.security import NetworkOperator
from coordinator.mechanisms.hierarchical.settlement import CommunityBills, settle_community
from coordinator.powerflow.opendss import OpenDssEngine
from coordinator.powerflow.pgm import PgmEngine
from coordinator.powerflow.result import line_loading_frac
from hil.errors import RunError
from hil.studies.hpk11 import PERIODS, FeederDay, FloatArray
from hil.studies.result import Say

STEP_W = 1e5
MAX_ROUNDS = 1500


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleared:
    """One clearing of one day: net imports (customers, 48) by transformer after the market alone and secure, bills, and time taken."""

    day: FeederDay
    retailer: Retailer
    operator: NetworkOperator
    talk: Talk[Clearing]
    market_w: dict[int, FloatArray]
    secure_w: dict[int, FloatArray]
    bills: dict[int, CommunityBills]
    clearing_s: float
    clearing_cpu_s: float

    @property
    def clearing(self) -> Clearing:
        """The outcome."""
        assert self.talk.outcome is not None
        return self.talk.outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What an engine says of a day: per interval extremes of voltage [pu], worst loading of lines and transformers."""

    engine: str
    highest_pu: FloatArray
    lowest_pu: FloatArray
    line_frac: float
    transformer_frac: float


def without_community(day: FeederDay) -> dict[int, Alone]:
    """Every customer of every transformer by itself."""
    return {place: alone(fleet, day.tariff) for place, fleet in enumerate(day.fleets)}


def clear(day: FeederDay, retailer: Retailer, say: Say) -> Cleared:
    """Hold the conversation and settle it; transformers without a community go on as without one."""
    operator, members = day.operator(), day.members()
    started = time.perf_counter(), time.process_time()
    mechanism = HierarchicalMarket(names=tuple(members), retailer=retailer, network=operator, step_s=day.fleets[0].step_s, step_w=STEP_W)
    responders = {name: CommunityOperator(members=own) for name, own in members.items()}
    talk = converse(mechanism, responders, max_rounds=MAX_ROUNDS, say=say)
    took_s, cpu_s = time.perf_counter() - started[0], time.process_time() - started[1]
    if talk.outcome is None:
        raise RunError(f"the clearing was not settled within {MAX_ROUNDS} rounds")
    say(f"cleared in {took_s:.0f} s ({cpu_s:.0f} s of processor time), {talk.rounds} rounds, {talk.outcome.market_rounds} of the market")
    market_w, secure_w, bills = {}, {}, {}
    for place, fleet in enumerate(day.fleets):
        if place not in day.communities:
            market_w[place] = secure_w[place] = alone(fleet, day.tariff).net_w
            continue
        number = talk.outcome.names.index(fleet.name)
        own = members[fleet.name]
        market_w[place], secure_w[place] = own.contracted_w, fleet.net_w(own.schedule)
        bills[place] = settle_community(
            talk.outcome, number, fleet, (market_w[place], secure_w[place]), own.end_weight, operator.ends_of(number)
        )
    return Cleared(
        day=day, retailer=retailer, operator=operator, talk=talk, market_w=market_w, secure_w=secure_w, bills=bills,
        clearing_s=took_s, clearing_cpu_s=cpu_s,
    )  # fmt: skip


def judge_pgm(day: FeederDay, nets_w: dict[int, FloatArray]) -> Judged:
    """What power-grid-model says of net imports (customers, 48) by transformer."""
    engine = PgmEngine(day.network)
    return _judged("power-grid-model", engine, day, nets_w)


def judge_opendss(day: FeederDay, nets_w: dict[int, FloatArray]) -> Judged:
    """What OpenDSS says of them."""
    return _judged("OpenDSS", OpenDssEngine(day.network), day, nets_w)


def _judged(name: str, engine: PgmEngine | OpenDssEngine, day: FeederDay, nets_w: dict[int, FloatArray]) -> Judged:
    power, reactive = day.connection_power(nets_w)
    highest, lowest, lines, transformers = [], [], [], []
    for interval in range(PERIODS):
        found = engine.solve(power[interval], reactive[interval])
        highest.append(float(np.nanmax(found.voltage_pu)))
        lowest.append(float(np.nanmin(found.voltage_pu)))
        lines.append(float(np.nanmax(line_loading_frac(day.network, found.line_current_a))))
        transformers.append(float(found.transformer_loading_frac.max()))
    return Judged(
        engine=name, highest_pu=np.array(highest), lowest_pu=np.array(lowest), line_frac=max(lines), transformer_frac=max(transformers)
    )
