"""The market of many households inside the limits of their feeder: prices out, sums at buses back, a handful of rounds.

    minimise  sum_i own_cost_i + tariff(sum_i net_i)     subject to squared voltages within limits, linear in the sums at buses

This is the sharing problem (S. Boyd et al., Distributed optimization and statistical learning via ADMM, 2011, section 7.3) with a network.
Its dual is a function of the market's price (T,), which lies between feed-in and retail because those are the slopes of the tariff
(source 002, equation 4), and of a surcharge >= 0 for each voltage row that binds; a bus pays the price and what its net import does to
those rows. Households answer with sums and with their slope by price, so that the market takes Newton steps in that dual, over the box of
prices and surcharges, while the barrier with which households keep inside their bounds falls: I. Necoara and J. Suykens, Interior-point
Lagrangian decomposition method for separable convex optimization, J. Optim. Theory Appl. 143, 2009. First-order sharing ADMM, which needs
no slopes, is what runs live (`protocols.negotiation`).

Voltages are linear (LinDistFlow) and corrected by exact power flow at the last sums in every round. The market is settled when its own
certificate says that nothing can be better by more than `tolerance_frac` of the cost (of a hundredth of what the forecast would be billed
at retail, if that is more: a cost may be zero), and exact power flow of the schedules themselves
holds. The certificate is weak duality, from sums alone: what households could still gain at these prices, what the tariff differs from the
price of the sum, and what surcharges pay for room that is not used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from coordinator.mechanisms.conversation import ConversationError, Step
from coordinator.mechanisms.dfe.feeder import OperatedFeeder
from coordinator.mechanisms.p2p.community import Tariff
from coordinator.mechanisms.sharing.households import W_PER_KW, FloatArray
from coordinator.mechanisms.sharing.messages import GroupSums, PriceSignal
from coordinator.mechanisms.sharing.prices import Rows, Told, best_prices
from coordinator.powerflow.radial import BoolArray

FALL_FRAC = 0.2
# The barrier falls only when households could follow the last step.
FOLLOWED_FRAC = 0.5
FIRST_BARRIER_FRAC = 0.2
# The part of the tolerance that the barrier may use up.
BARRIER_PART = 0.4
# However cheap everything is, the barrier falls no lower than this share of the retail price.
LEAST_BARRIER_FRAC = 1e-8
LEAST_WORTH_FRAC = 0.01
EXTRA_ROWS = 6
# Voltages near a limit are corrected again once squares of them have moved; a correction is by how much power flow is no straight line.
NEAR_PU2, FLOWED_PU2 = 0.02, 1e-3
DAMPED_ROUND = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class SharingState:
    """`price_per_kwh` (buses, T) and `market_per_kwh` (T,) were told last; `rows` are the voltage rows that have mattered so far, with
    their surcharges; `expected_w` (buses, T) is what the market expects now, `flowed_w` the sums at which voltages were corrected last, and
    `rooms` what that left.
    """

    price_per_kwh: FloatArray
    market_per_kwh: FloatArray
    rows: Rows
    expected_w: FloatArray
    flowed_w: FloatArray
    rooms: tuple[FloatArray, FloatArray]
    barrier: float
    certify: bool
    rounds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SharingOutcome:
    """Sums (buses, T) of what is scheduled, the price of trade (T,) and that of each bus (buses, T), what stays unserved (buses, T) and
    unmet of flexible load, in which intervals voltages bound (T,), what all cost together, and by how much less they could cost at most.
    """

    net_w: FloatArray
    market_per_kwh: FloatArray
    price_per_kwh: FloatArray
    unserved_w: FloatArray
    unmet_wh: float
    bound: BoolArray
    cost: float
    gap: float
    lowest_pu: float
    highest_pu: float
    rounds: int


@dataclass(frozen=True, kw_only=True)
class SharingMarket:
    """`feeder` has one connection for each bus. `forecast_w` says what each group takes (buses, T) if it does nothing; a group that is left
    out is expected to take that, from the retailer, and `others_w` (buses, T) is the sum of such. `clearance_pu` is kept from voltage
    limits.
    """

    feeder: OperatedFeeder
    tariff: Tariff
    step_s: float
    forecast_w: Mapping[str, FloatArray]
    others_w: FloatArray
    tolerance_frac: float = 1e-4
    clearance_pu: float = 1e-4

    def __post_init__(self) -> None:
        shape = self.others_w.shape
        for name, forecast in self.forecast_w.items():
            if forecast.shape != shape or not np.isfinite(forecast).all():
                raise ConversationError(f"the forecast of group {name} has shape {forecast.shape}, expected {shape} finite values")
        if shape != (self.feeder.communities, self.feeder.periods) or self.tariff.retail_per_kwh.shape != shape[1:]:
            raise ConversationError(
                f"the feeder has {self.feeder.communities} buses over {self.feeder.periods} intervals, others have shape {shape}, "
                f"and prices {self.tariff.retail_per_kwh.shape}"
            )
        if not 0.0 < self.tolerance_frac < 1.0:
            raise ConversationError(f"tolerance_frac {self.tolerance_frac} is not within 0 and 1")

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups of households."""
        return tuple(self.forecast_w)

    @property
    def hours(self) -> float:
        """Length of an interval."""
        return self.step_s / 3600.0

    def begin(self) -> Step[SharingState, PriceSignal, SharingOutcome]:
        """Start at the middle of both prices, with schedules far from their bounds."""
        middle = 0.5 * (self.tariff.retail_per_kwh + self.tariff.feed_in_per_kwh)
        expected_w = sum(self.forecast_w.values(), start=np.zeros_like(self.others_w))
        state = SharingState(
            price_per_kwh=np.repeat(middle[None], self.others_w.shape[0], axis=0),
            market_per_kwh=middle,
            rows=Rows.none(self.others_w.shape[0]),
            expected_w=expected_w,
            flowed_w=expected_w,
            rooms=self.rooms(expected_w),
            barrier=FIRST_BARRIER_FRAC * float(self.tariff.retail_per_kwh.mean()),
            certify=False,
            rounds=0,
        )
        return self._step(state)

    def hear(self, state: SharingState, responses: Mapping[str, GroupSums]) -> Step[SharingState, PriceSignal, SharingOutcome]:
        """Settle if these answers are good enough, else find better prices from their slopes."""
        answers = [responses[name] for name in self.groups]
        net_w = sum((answer.net_w for answer in answers), start=np.zeros_like(self.others_w))
        cost = sum(answer.own_cost for answer in answers) + self.tariff.cost(net_w.sum(axis=0), self.step_s)
        following = replace(state, rounds=state.rounds + 1)
        if state.certify:
            outcome = self._settled(following, answers, net_w, cost)
            if outcome is not None:
                return Step(state=following, signals={}, outcome=outcome)
        aim_w = sum((answer.aim_w for answer in answers), start=np.zeros_like(self.others_w))
        slope_w = sum((answer.slope_w for answer in answers), start=np.zeros((*self.others_w.shape, self.others_w.shape[1])))
        following = self._better(following, aim_w, slope_w)
        return self._step(self._lower(following, answers, cost))

    def flaw(self, group: str, response: GroupSums) -> str | None:
        """Every sum must be finite and of the right shape, and net import must not rise with its own price."""
        buses, periods = self.others_w.shape
        shapes = dict.fromkeys(("net_w", "aim_w", "unserved_w"), (buses, periods)) | {"slope_w": (buses, periods, periods)}
        for name, shape in shapes.items():
            values = getattr(response, name)
            if values.shape != shape or not np.isfinite(values).all():
                return f"answered {name} of shape {values.shape}, expected {shape} finite values"
        if not np.isfinite((response.own_cost, response.step_frac, 0.0 if response.gap is None else response.gap)).all():
            return "answered a cost, step or gap that is not a finite number"
        if np.any(np.diagonal(response.slope_w, axis1=1, axis2=2) < 0.0):
            return "answered that it would take more at a higher price"
        return None

    def without(self, groups: frozenset[str]) -> Self:
        """Groups that are left out are expected to take what was forecast of them."""
        out = sum((self.forecast_w[name] for name in groups), start=self.others_w)
        kept = {name: forecast for name, forecast in self.forecast_w.items() if name not in groups}
        return replace(self, forecast_w=kept, others_w=out)

    def hopeless(self, least_w: FloatArray) -> tuple[int, ...]:
        """Intervals whose lowest voltage is too low even if everybody takes the least that they could (buses, T): load will be unserved."""
        down, _ = self.feeder.rooms(least_w + self.others_w)
        return tuple(int(interval) for interval in np.flatnonzero(np.any(self.feeder.fall @ (least_w + self.others_w) > down, axis=0)))

    def rooms(self, net_w: FloatArray) -> tuple[FloatArray, FloatArray]:
        """How much squared voltages may fall and rise (nodes, T) because of these sums, corrected by exact power flow at them."""
        kept = 2.0 * self.clearance_pu
        fallen = self.feeder.fall @ self.others_w
        down, up = self.feeder.rooms(net_w + self.others_w)
        return down - fallen - kept, up + fallen - kept

    def _better(self, state: SharingState, aim_w: FloatArray, slope_w: FloatArray) -> SharingState:
        """Newton's prices, with voltage rows added while the expected sums break some."""
        fall = self.feeder.fall
        fallen = fall @ state.expected_w
        near = min(float((state.rooms[0] - fallen).min()), float((state.rooms[1] + fallen).min())) < NEAR_PU2
        moved = float(np.abs(fallen - fall @ state.flowed_w).max())
        if near and (state.certify or moved > FLOWED_PU2):
            # Far beyond what the feeder can carry, corrections overshoot: then the middle between the last two is better.
            flowed_w = state.expected_w if state.rounds <= DAMPED_ROUND else 0.5 * (state.expected_w + state.flowed_w)
            state = replace(state, flowed_w=flowed_w, rooms=self.rooms(flowed_w))
        rooms = state.rooms
        told = Told(price_per_kwh=state.price_per_kwh, market_per_kwh=state.market_per_kwh)
        rows = state.rows.with_room(fall, rooms)
        for _ in range(EXTRA_ROWS):
            market, rows = best_prices(rows, told, self.tariff, aim_w, slope_w)
            price = market + rows.surcharge(market.size)
            expected_w = aim_w - np.matmul(slope_w, (price - state.price_per_kwh)[:, :, None])[:, :, 0]
            added = rows.with_broken(fall, rooms, expected_w)
            if added is rows:
                break
            rows = added
        return replace(state, price_per_kwh=price, market_per_kwh=market, rows=rows, expected_w=expected_w)

    def _lower(self, state: SharingState, answers: list[GroupSums], cost: float) -> SharingState:
        """Bring schedules nearer to their bounds; at the lowest barrier households are asked for their part of the certificate."""
        slacks = max(sum(answer.slack_count for answer in answers), 1)
        lowest = BARRIER_PART * self.tolerance_frac * self._worth(cost) / (slacks * self.hours)
        lowest = max(lowest, LEAST_BARRIER_FRAC * float(self.tariff.retail_per_kwh.mean()))
        followed = state.rounds == 1 or min(answer.step_frac for answer in answers) > FOLLOWED_FRAC
        barrier = state.barrier * FALL_FRAC if followed else state.barrier
        return replace(state, barrier=max(barrier, lowest), certify=barrier <= lowest)

    def _settled(self, state: SharingState, answers: list[GroupSums], net_w: FloatArray, cost: float) -> SharingOutcome | None:
        """The outcome, if the certificate and exact power flow hold for the schedules themselves."""
        if any(answer.gap is None for answer in answers):
            return None
        rows = state.rows.with_room(self.feeder.fall, self.rooms(net_w))
        total_w = net_w.sum(axis=0)
        paid = self.tariff.cost(total_w, self.step_s)
        unused_w = float(state.market_per_kwh @ total_w) - paid * W_PER_KW / self.hours
        gap = sum(answer.gap or 0.0 for answer in answers) + (rows.unused(net_w) - unused_w) * self.hours / W_PER_KW
        if abs(gap) > self.tolerance_frac * self._worth(cost):
            return None
        flow = self.feeder.flow(net_w + self.others_w)
        voltage = np.sqrt(self.feeder.square_pu(flow))
        if not flow.converged.all() or voltage.min() < self.feeder.vmin_pu or voltage.max() > self.feeder.vmax_pu:
            return None
        return SharingOutcome(
            net_w=net_w,
            market_per_kwh=state.market_per_kwh,
            price_per_kwh=state.price_per_kwh,
            unserved_w=sum((answer.unserved_w for answer in answers), start=np.zeros_like(net_w)),
            unmet_wh=sum(answer.unmet_wh for answer in answers),
            bound=rows.bound(net_w.shape[1]),
            cost=cost,
            gap=gap,
            lowest_pu=float(voltage.min()),
            highest_pu=float(voltage.max()),
            rounds=state.rounds,
        )

    def _worth(self, cost: float) -> float:
        billed = sum(float((self.tariff.retail_per_kwh * np.abs(forecast)).sum()) for forecast in self.forecast_w.values())
        return max(abs(cost), LEAST_WORTH_FRAC * billed * self.hours / W_PER_KW)

    def _step(self, state: SharingState) -> Step[SharingState, PriceSignal, SharingOutcome]:
        signal = PriceSignal(price_per_kwh=state.price_per_kwh, barrier=state.barrier, certify=state.certify)
        return Step(state=state, signals=dict.fromkeys(self.groups, signal))
