"""The optimum of the households' market, solved at once by one who knows every household: what the negotiation is measured against.

The formulation is the sparsest that we know, so that the comparison is fair: stored energy and branch flows are variables of their own (the
states of a chain and of a tree), and only what households really have is in it. Bus sums with dense voltage rows take Clarabel ten times
as long.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from coordinator.mechanisms.dfe.quadratic import QuadraticProgram
from coordinator.mechanisms.sharing.households import FULLEST_END_FRAC, W_PER_KW, FloatArray, Households, IntArray
from coordinator.mechanisms.sharing.market import SharingMarket

BLOCKS = ("charge", "discharge", "stored", "flexible", "unmet", "spilt", "unserved", "flow", "fallen", "bought", "sold")


@dataclass(frozen=True, kw_only=True)
class CentralMarket:
    """All households and the market as one program, voltages linear with the given rooms (nodes, T) for falling and rising."""

    households: Households
    market: SharingMarket
    rooms: tuple[FloatArray, FloatArray]

    @cached_property
    def program(self) -> QuadraticProgram:
        """The program in kilowatts, without the length of an interval: its objective times `hours` is money."""
        homes, tariff = self.households, self.market.tariff
        quadratic = dict.fromkeys(("charge", "discharge", "flexible", "spilt"), homes.smooth_per_kwh_kw)
        linear: dict[str, FloatArray | float] = {
            "charge": homes.wear_per_kwh,
            "discharge": homes.wear_per_kwh,
            "unmet": homes.lost_load_per_kwh,
            "unserved": homes.lost_load_per_kwh,
            "bought": tariff.retail_per_kwh,
            "sold": -tariff.feed_in_per_kwh,
        }
        rows = [self._balances(), self._voltages(), self._charges(), self._needs(), self._trade()]
        least, most = self._bounds()
        eye = sparse.eye(self._ends[-1], format="csr")
        above, under = np.flatnonzero(np.isfinite(most)), np.flatnonzero(np.isfinite(least))
        return QuadraticProgram(
            quadratic=np.concatenate([np.full(self._sizes[name], quadratic.get(name, 0.0)) for name in BLOCKS]),
            linear=np.concatenate([np.broadcast_to(linear.get(name, 0.0), self._sizes[name]) for name in BLOCKS]),
            equal=sparse.vstack([matrix for matrix, _ in rows], format="csc"),
            equal_to=np.concatenate([right for _, right in rows]),
            below=sparse.vstack([eye[above], -eye[under]], format="csc"),
            below_to=np.concatenate([most[above], -least[under]]),
        )

    def cost(self, found: FloatArray) -> float:
        """What a solution of the program costs everybody."""
        program = self.program
        return float(program.linear @ found + 0.5 * program.quadratic @ found**2) * self.households.hours

    @cached_property
    def _owners(self) -> IntArray:
        return np.flatnonzero((self.households.battery_wh > 0.0) & (self.households.battery_w > 0.0))

    @cached_property
    def _movers(self) -> IntArray:
        return np.flatnonzero(self.households.flexible_wh > 0.0)

    @cached_property
    def _sunny(self) -> tuple[IntArray, IntArray]:
        household, interval = np.nonzero(self.households.sun_w.T > 0.0)
        return household, interval

    @cached_property
    def _branches(self) -> IntArray:
        """The nodes that are fed through a branch."""
        return np.flatnonzero(self.market.feeder.feeder.tree.parent >= 0)

    @cached_property
    def _branch_of_bus(self) -> IntArray:
        feeder = self.market.feeder
        tree, network = feeder.feeder.tree, feeder.network
        nodes = [int(tree.node_of_bus[network.bus_index[item.bus]]) for item in network.connections[-feeder.communities :]]
        return np.asarray(np.searchsorted(self._branches, nodes))

    @cached_property
    def _sizes(self) -> dict[str, int]:
        periods, batteries, branches = self.households.periods, self._owners.size, self._branches.size
        counts = (batteries, batteries, batteries, self._movers.size, 0, 0, self.households.buses, branches, branches, 1, 1)
        sizes = {name: count * periods for name, count in zip(BLOCKS, counts, strict=True)}
        return sizes | {"unmet": int(self._movers.size), "spilt": int(self._sunny[0].size)}

    @cached_property
    def _ends(self) -> IntArray:
        return np.cumsum([0, *(self._sizes[name] for name in BLOCKS)])

    def _row(self, height: int, **parts: sparse.spmatrix) -> sparse.csr_matrix:
        return sparse.hstack(
            [parts[name] if name in parts else sparse.csr_matrix((height, self._sizes[name])) for name in BLOCKS], format="csr"
        )

    def _at_branches(self, household: IntArray) -> sparse.csr_matrix:
        """(branches, len(household)): 1 where a household hangs."""
        places = (self._branch_of_bus[self.households.bus[household]], np.arange(household.size))
        return sparse.csr_matrix((np.ones(household.size), places), shape=(self._branches.size, household.size))

    @cached_property
    def _tree(self) -> sparse.csr_matrix:
        """(branches, branches): each flow less those that it feeds."""
        parent = self.market.feeder.feeder.tree.parent[self._branches]
        inner = np.flatnonzero(np.isin(parent, self._branches))
        children = sparse.csr_matrix(
            (np.ones(inner.size), (np.searchsorted(self._branches, parent[inner]), inner)), shape=(self._branches.size, self._branches.size)
        )
        return sparse.eye(self._branches.size, format="csr") - children

    def _balances(self) -> tuple[sparse.csr_matrix, FloatArray]:
        """flow = what hangs at the branch + the flows that it feeds."""
        homes, hours = self.households, sparse.eye(self.households.periods)
        height, branches = self._branches.size * homes.periods, self._branches.size
        household, interval = self._sunny
        branch = self._branch_of_bus[homes.bus[household]]
        spilt = sparse.csr_matrix(
            (np.ones(household.size), (branch * homes.periods + interval, np.arange(household.size))), shape=(height, household.size)
        )
        batteries = sparse.kron(self._at_branches(self._owners), hours)
        unserved = sparse.csr_matrix((np.ones(homes.buses), (self._branch_of_bus, np.arange(homes.buses))), shape=(branches, homes.buses))
        fixed = np.zeros((branches, homes.periods))
        np.add.at(fixed, self._branch_of_bus, homes.at_buses(homes.fixed_w) / W_PER_KW)
        row = self._row(
            height,
            charge=-batteries,
            discharge=batteries,
            flexible=-sparse.kron(self._at_branches(self._movers), hours),
            spilt=-spilt,
            unserved=sparse.kron(unserved, hours),
            flow=sparse.kron(self._tree, hours),
        )
        return row, fixed.ravel()

    def _voltages(self) -> tuple[sparse.csr_matrix, FloatArray]:
        """The squared voltage falls along each branch by 2 r times its flow, in per unit."""
        feeder, hours = self.market.feeder, sparse.eye(self.households.periods)
        fall = 2.0 / 3.0 * feeder.feeder.z_ohm[:, 0, 0].real / feeder.feeder.nominal_v**2 * W_PER_KW
        height = self._branches.size * self.households.periods
        row = self._row(
            height, flow=sparse.kron(-sparse.diags(fall[self._branches]), hours), fallen=sparse.kron(self._tree.T, hours)
        )
        return row, np.zeros(height)

    def _charges(self) -> tuple[sparse.csr_matrix, FloatArray]:
        homes, count = self.households, self._owners.size
        change = sparse.eye(homes.periods) - sparse.eye(homes.periods, k=-1)
        eye = sparse.eye(count * homes.periods)
        first = np.zeros((count, homes.periods))
        first[:, 0] = (homes.initial_frac * homes.battery_wh)[self._owners] / W_PER_KW
        into, out_of = homes.efficiency_frac * homes.hours, homes.hours / homes.efficiency_frac
        row = self._row(
            count * homes.periods, charge=-into * eye, discharge=out_of * eye, stored=sparse.kron(sparse.eye(count), change)
        )
        return row, first.ravel()

    def _needs(self) -> tuple[sparse.csr_matrix, FloatArray]:
        homes, count = self.households, self._movers.size
        row = self._row(
            count, flexible=sparse.kron(sparse.eye(count), np.ones((1, homes.periods))), unmet=sparse.eye(count)
        )
        return row, homes.flexible_wh[self._movers] / W_PER_KW / homes.hours

    def _trade(self) -> tuple[sparse.csr_matrix, FloatArray]:
        """What flows into the feeder's first branches is bought or sold."""
        periods, hours = self.households.periods, sparse.eye(self.households.periods)
        roots = ~np.isin(self.market.feeder.feeder.tree.parent[self._branches], self._branches)
        row = self._row(periods, flow=sparse.kron(roots[None].astype(float), hours), bought=-hours, sold=hours)
        return row, np.zeros(periods)

    def _bounds(self) -> tuple[FloatArray, FloatArray]:
        homes, periods = self.households, self.households.periods
        capacity = homes.battery_wh[self._owners] / W_PER_KW
        power = np.repeat(homes.battery_w[self._owners] / W_PER_KW, periods)
        emptiest = np.zeros((self._owners.size, periods))
        emptiest[:, -1] = capacity * np.minimum(homes.initial_frac[self._owners], FULLEST_END_FRAC)
        household, interval = self._sunny
        down, up = (room[self._branches].ravel() for room in self.rooms)
        most = {
            "charge": power,
            "discharge": power,
            "stored": np.repeat(capacity, periods),
            "flexible": homes.flexible_w[:, self._movers].T.ravel() / W_PER_KW,
            "spilt": homes.sun_w[interval, household] / W_PER_KW,
            "unserved": homes.at_buses(homes.load_w).ravel() / W_PER_KW,
            "fallen": down,
        }
        least: dict[str, FloatArray | float] = {"stored": emptiest.ravel(), "fallen": -up, "flow": -np.inf}
        return (
            np.concatenate([np.broadcast_to(least.get(name, 0.0), self._sizes[name]) for name in BLOCKS]),
            np.concatenate([np.broadcast_to(most.get(name, np.inf), self._sizes[name]) for name in BLOCKS]),
        )
