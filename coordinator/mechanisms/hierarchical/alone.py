"""The world without a community: every household schedules what it owns for its own bill at the standing offers, with no network in sight.

Each is a linear program of its own (variables: vehicles and batteries, what is bought and what is sold), solved exactly by HiGHS, many
households stacked into one problem at a time. Panels give all they can, since feed-in is paid for everything; where it is negative they may
give less. It is what a clearing is compared with, and nothing of it is used in one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from coordinator.mechanisms.conversation import ConversationError
from coordinator.mechanisms.hierarchical.devices import HOUR_S, IntArray
from coordinator.mechanisms.hierarchical.members import W_PER_KW, Fleet, Schedule
from coordinator.mechanisms.p2p.community import Tariff
from coordinator.mechanisms.signals import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone:
    """Schedules without a community, the net imports (members, T) and the bills (members,) that follow."""

    schedule: Schedule
    net_w: FloatArray
    bill: FloatArray


def alone(fleet: Fleet, tariff: Tariff) -> Alone:
    """The schedules of least bill and wear of all members of a fleet, each by itself."""
    parts = (_panels(fleet), _vehicles(fleet), _batteries(fleet))
    members, periods = fleet.members, fleet.periods
    size = members * periods
    kwh = fleet.kwh_per_w * W_PER_KW
    prices = kwh * np.concatenate((np.tile(tariff.retail_per_kwh, members), -np.tile(tariff.feed_in_per_kwh, members)))
    columns = [part.net for part in parts]
    balance = sparse.hstack([*(-column for column in columns), sparse.eye(size), -sparse.eye(size)], format="csr")
    own = sparse.block_diag([part.equal for part in parts], format="csr")
    below = sparse.block_diag([part.below for part in parts], format="csr")
    trade = 2 * size
    found = linprog(
        np.concatenate([*(part.cost for part in parts), prices]),
        A_eq=sparse.vstack([balance, sparse.hstack([own, sparse.csr_matrix((own.shape[0], trade))])], format="csr"),
        b_eq=np.concatenate([fleet.load_w.ravel() / W_PER_KW, *(part.equal_to for part in parts)]),
        A_ub=sparse.hstack([below, sparse.csr_matrix((below.shape[0], trade))], format="csr"),
        b_ub=np.concatenate([part.below_by for part in parts]),
        bounds=np.vstack([*(part.bounds for part in parts), np.tile((0.0, np.inf), (trade, 1))]),
        method="highs",
    )
    if not found.success:
        raise ConversationError(f"community {fleet.name}: no schedule without a community was found ({found.message})")
    x = W_PER_KW * found.x
    return _result(fleet, tariff, x)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """The variables of one kind of device in kilowatts, device by device: cost, net load (members T, variables), and own limits."""

    cost: FloatArray
    net: sparse.csr_matrix
    equal: sparse.csr_matrix
    equal_to: FloatArray
    below: sparse.csr_matrix
    below_by: FloatArray
    bounds: FloatArray


def _to_members(fleet: Fleet, member: IntArray, sign: float) -> sparse.csr_matrix:
    at = sparse.csr_matrix((np.full(member.size, sign), (member, np.arange(member.size))), shape=(fleet.members, member.size))
    return sparse.kron(at, sparse.eye(fleet.periods), format="csr")


def _panels(fleet: Fleet) -> _Part:
    most = fleet.panels.available_w.ravel() / W_PER_KW
    none = sparse.csr_matrix((0, most.size))
    return _Part(
        cost=np.zeros(most.size),
        net=_to_members(fleet, fleet.panels.member, -1.0),
        equal=none,
        equal_to=np.zeros(0),
        below=none,
        below_by=np.zeros(0),
        bounds=np.column_stack((np.zeros(most.size), most)),
    )


def _vehicles(fleet: Fleet) -> _Part:
    own, periods = fleet.vehicles, fleet.periods
    most = own.max_w.ravel() / W_PER_KW
    return _Part(
        cost=np.zeros(most.size),
        net=_to_members(fleet, own.member, 1.0),
        equal=sparse.kron(sparse.eye(own.member.size), np.full((1, periods), own.step_s / HOUR_S), format="csr"),
        equal_to=own.energy_wh / W_PER_KW,
        below=sparse.csr_matrix((0, most.size)),
        below_by=np.zeros(0),
        bounds=np.column_stack((np.zeros(most.size), most)),
    )


def _batteries(fleet: Fleet) -> _Part:
    own, periods = fleet.batteries, fleet.periods
    count, hours = own.member.size, own.step_s / HOUR_S
    since = np.tri(periods) * hours
    stored = sparse.kron(sparse.eye(count), np.hstack((own.efficiency_frac * since, -since / own.efficiency_frac)), format="csr")
    ends = np.arange(count) * periods + periods - 1
    power = np.repeat(own.power_w, 2 * periods) / W_PER_KW
    net = sparse.csr_matrix((fleet.members * periods, 2 * count * periods))
    if count:
        at = sparse.csr_matrix((np.ones(count), (own.member, np.arange(count))), shape=(fleet.members, count))
        net = sparse.kron(at, sparse.hstack((sparse.eye(periods), -sparse.eye(periods))), format="csr")
    return _Part(
        cost=np.full(power.size, own.wear_per_kwh * hours),
        net=net,
        equal=stored[ends],
        equal_to=np.zeros(count),
        below=sparse.vstack((stored, -stored), format="csr"),
        below_by=np.concatenate((np.repeat(own.capacity_wh - own.initial_wh, periods), np.repeat(own.initial_wh, periods))) / W_PER_KW,
        bounds=np.column_stack((np.zeros(power.size), power)),
    )


def _result(fleet: Fleet, tariff: Tariff, x: FloatArray) -> Alone:
    periods = fleet.periods
    panels, vehicles, batteries = (item.member.size for item in (fleet.panels, fleet.vehicles, fleet.batteries))
    first, second = panels * periods, (panels + vehicles) * periods
    stored = x[second : second + 2 * batteries * periods].reshape(batteries, 2, periods)
    schedule = Schedule(
        panels_w=-x[:first].reshape(panels, periods),
        vehicles_w=x[first:second].reshape(vehicles, periods),
        charge_w=stored[:, 0],
        discharge_w=stored[:, 1],
    )
    net = fleet.net_w(schedule)
    paid = tariff.retail_per_kwh * np.maximum(net, 0.0) + tariff.feed_in_per_kwh * np.minimum(net, 0.0)
    return Alone(schedule=schedule, net_w=net, bill=paid.sum(axis=1) * fleet.kwh_per_w)
