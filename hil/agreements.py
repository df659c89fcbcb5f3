"""What was agreed in one negotiation, as the bench keeps it to settle the day, and what an independent power flow says of it.

Power flows are those of power-grid-model on the whole three-phase network, every home at its own phase and place, with the reactive power
that the operator assumes: an engine that shares no code with any mechanism.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from coordinator.market.desk import Concluded
from coordinator.mechanisms.hierarchical.households import HouseholdClearing
from coordinator.mechanisms.p2p.market import Clearing
from coordinator.network.model import Network
from coordinator.powerflow.pgm import PgmEngine

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
LEAST_PRICE_PER_KWH = 1e-3
"""A price of the network below this is none: what moves without one moves for other reasons."""


class AgreedPrices(Struct, frozen=True, kw_only=True):
    """The price at which `homes` (all, where none is named) trade with each other by one agreement, interval by interval. Of agreements
    that begin together, as one does that a coordinator made again after it was restarted, the one with the higher `number` is the newer.
    """

    number: int
    start_s: float
    step_s: float
    price_per_kwh: tuple[float, ...]
    homes: tuple[str, ...] = ()

    @property
    def intervals(self) -> int:
        """How many intervals it is about."""
        return len(self.price_per_kwh)


class AgreedService(Struct, frozen=True, kw_only=True):
    """What homes moved for the network by one agreement, each (homes, T): what they had contracted for, how far they moved from it, zero
    where no price of the network asked for it, and what each gets for that. `number` is as in `AgreedPrices`.
    """

    number: int
    start_s: float
    step_s: float
    homes: tuple[str, ...]
    contract_w: tuple[tuple[float, ...], ...]
    service_w: tuple[tuple[float, ...], ...]
    paid: tuple[tuple[float, ...], ...]

    @property
    def intervals(self) -> int:
        """How many intervals it is about."""
        return len(self.service_w[0])


AgreedT = TypeVar("AgreedT", AgreedPrices, AgreedService)


def in_force(times_s: Floats, agreed: Sequence[AgreedT]) -> list[tuple[AgreedT, Ints]]:
    """Which interval of each agreement every time lies in, -1 where it does not hold: before it, after it has run out, or once there is
    a newer one.
    """
    found = []
    for item in agreed:
        until_s = min((other.start_s for other in agreed if other.number > item.number), default=np.inf)
        at = np.floor((times_s - item.start_s) / item.step_s).astype(np.int64)
        found.append((item, np.where((at >= 0) & (at < item.intervals) & (times_s < until_s), at, -1)))
    return found


class AgreementFlow(Struct, frozen=True, kw_only=True):
    """Extremes over all intervals of one agreement, were it kept to the watt."""

    voltage_min_v: float
    voltage_max_v: float
    transformer_frac: float


class Checker:
    """Power flows of agreements on one network; `connection_of` says where each home is, `q_per_w` is assumed."""

    def __init__(self, network: Network, connection_of: dict[str, str], q_per_w: float) -> None:
        self._network = network
        self._row = {home: network.connection_index[connection] for home, connection in connection_of.items()}
        self._q_per_w = q_per_w
        self._engine = PgmEngine(network)

    def flow(self, names: tuple[str, ...], net_w: Floats) -> AgreementFlow:
        """What net imports (homes, T) do to the network."""
        power_w = np.zeros((net_w.shape[1], len(self._network.connections)))
        power_w[:, [self._row[name] for name in names]] = net_w.T
        found = self._engine.solve(power_w, self._q_per_w * power_w)
        low_side_v = np.array([bus.nominal_ln_v for bus in self._network.buses])
        homes = sorted({self._network.bus_index[self._network.connections[row].bus] for row in self._row.values()})
        volts = found.voltage_pu[:, homes] * low_side_v[homes][:, None]
        return AgreementFlow(
            voltage_min_v=float(np.nanmin(volts)),
            voltage_max_v=float(np.nanmax(volts)),
            transformer_frac=float(found.transformer_loading_frac.max(initial=0.0)),
        )


def worst_of(flows: Sequence[AgreementFlow]) -> AgreementFlow | None:
    """The extremes of several agreements; None where there is none."""
    if not flows:
        return None
    return AgreementFlow(
        voltage_min_v=min(flow.voltage_min_v for flow in flows),
        voltage_max_v=max(flow.voltage_max_v for flow in flows),
        transformer_frac=max(flow.transformer_frac for flow in flows),
    )


def prices_of(done: Concluded, step_s: float) -> list[AgreedPrices]:
    """The prices of trade: those of the mechanism's own market where there is one, else the mean of the homes' prices."""
    outcome = done.outcome
    assert outcome is not None
    if isinstance(outcome, HouseholdClearing):
        return [
            AgreedPrices(number=done.number, start_s=done.start_s, step_s=step_s, price_per_kwh=tuple(inside.tolist()), homes=homes)
            for inside, homes in zip(outcome.levels.secure.inside_per_kwh, _communities(outcome), strict=True)
        ]
    price = outcome.market_per_kwh if isinstance(outcome, Clearing) else outcome.price_per_kwh.mean(axis=0)
    return [AgreedPrices(number=done.number, start_s=done.start_s, step_s=step_s, price_per_kwh=tuple(price.tolist()))]


def services_of(done: Concluded, step_s: float) -> list[AgreedService]:
    """The services of an agreement, also where nobody was asked to move: the newest agreement says what is owed."""
    outcome = done.outcome
    if not isinstance(outcome, HouseholdClearing):
        return []
    asked = np.abs(outcome.moving_per_kwh) >= LEAST_PRICE_PER_KWH
    service_w = np.where(asked, outcome.net_w - outcome.market_w, 0.0)
    contract_w, moved_w, paid = (
        tuple(tuple(row.tolist()) for row in table) for table in (outcome.market_w, service_w, outcome.service_paid)
    )
    return [
        AgreedService(
            number=done.number,
            start_s=done.start_s,
            step_s=step_s,
            homes=outcome.names,
            contract_w=contract_w,
            service_w=moved_w,
            paid=paid,
        )
    ]


def _communities(outcome: HouseholdClearing) -> list[tuple[str, ...]]:
    """The homes of every community."""
    count = len(outcome.levels.names)
    return [tuple(name for name, at in zip(outcome.names, outcome.community, strict=True) if at == place) for place in range(count)]
