"""The optimum that the negotiation is measured against, by one who knows everything; and clearing inside envelopes that are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from coordinator.mechanisms.dfe.community import EnergyCommunity
from coordinator.mechanisms.dfe.feeder import OperatedFeeder
from coordinator.mechanisms.dfe.negotiation import Tariff
from coordinator.mechanisms.dfe.quadratic import W_PER_KW, FloatArray, QuadraticProgram, solve, stacked

CORRECTIONS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleared:
    """One solution: (communities, T), and each community's own variables as its program has them, in kilowatts."""

    net_w: FloatArray
    import_limit_w: FloatArray
    export_limit_w: FloatArray
    solutions_kw: tuple[FloatArray, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CentralProblem:
    """All communities and the operator as one problem."""

    communities: Sequence[EnergyCommunity]
    feeder: OperatedFeeder
    tariff: Tariff
    loss_per_kwh: float
    clearance_pu: float

    def optimum(self) -> Cleared:
        """The joint optimum; linear voltages are corrected at the corners of the last solution, as in the negotiation."""
        count, periods = len(self.communities), self.feeder.periods
        import_w, export_w = np.zeros((count, periods)), np.zeros((count, periods))
        for _ in range(CORRECTIONS):
            rows, right = self._voltage_rows(import_w, export_w)
            found = self._clear(rows, right)
            import_w, export_w = found.import_limit_w, found.export_limit_w
        return found

    def within(self, import_limit_w: FloatArray, export_limit_w: FloatArray) -> Cleared:
        """The communities trade inside envelopes (communities, T) that the operator alone has chosen; losses are then nobody's concern.

        ConversationError where the communities' margins do not fit.
        """
        selectors, limits = [], []
        for block, given in (("import_limit", import_limit_w), ("export_limit", export_limit_w)):
            selectors.append(self._select(block))
            limits.append(given.ravel() / W_PER_KW)
        blind = CentralProblem(
            communities=self.communities, feeder=self.feeder, tariff=self.tariff, loss_per_kwh=0.0, clearance_pu=self.clearance_pu
        )
        return blind._clear(sparse.vstack(selectors, format="csc"), np.concatenate(limits))

    def alone(self) -> Cleared:
        """Nobody trades with anybody and nobody exports: each community supplies itself and buys what is missing."""
        shape = (len(self.communities), self.feeder.periods)
        rows = sparse.vstack([-self._select("net")], format="csc")
        blind = CentralProblem(
            communities=self.communities, feeder=self.feeder, tariff=self.tariff, loss_per_kwh=0.0, clearance_pu=self.clearance_pu
        )
        return blind._clear(rows, np.zeros(shape[0] * shape[1]))

    def cost(self, cleared: Cleared) -> float:
        """What a solution costs everybody: communities, exchange with the grid, and losses at their price."""
        own = sum(
            community.cost(solution) for community, solution in zip(self.communities, cleared.solutions_kw, strict=True)
        )
        return own + self.exchange_cost(cleared.net_w)

    def exchange_cost(self, net_w: FloatArray) -> float:
        """What the communities' exchange with the grid and all losses cost for net imports (communities, T)."""
        hours = self.communities[0].hours_per_step / W_PER_KW
        total = net_w.sum(axis=0)
        money = np.where(total >= 0.0, self.tariff.buy_per_kwh, self.tariff.sell_per_kwh) * total
        quadratic, linear = self.feeder.loss_form
        losses = self.feeder.base_losses_w + np.einsum("it,tij,jt->t", net_w, quadratic, net_w) + (linear * net_w).sum(axis=0)
        return float((money + self.loss_per_kwh * losses).sum() * hours)

    def _clear(self, rows: sparse.csc_matrix, right: FloatArray) -> Cleared:
        """Minimise everything subject to `rows` over the communities' stacked variables."""
        own = stacked([community.program for community in self.communities])
        periods, hours = self.feeder.periods, self.communities[0].hours_per_step
        quadratic, linear = self.feeder.loss_form
        nets = self._select("net")
        by_period = sparse.block_diag([item * W_PER_KW for item in quadratic], format="csc")
        order = np.arange(len(self.communities) * periods).reshape(len(self.communities), periods).T.ravel()
        reordered = nets[order]
        form = sparse.diags(own.quadratic) + 2.0 * self.loss_per_kwh * hours * (reordered.T @ by_period @ reordered)
        total = sparse.kron(np.ones((1, len(self.communities))), sparse.eye(periods)) @ nets
        spare = sparse.eye(periods)
        empty = sparse.csc_matrix((own.below.shape[0], 2 * periods))
        program = QuadraticProgram(
            quadratic=np.zeros(0),
            linear=np.concatenate(
                [
                    own.linear + self.loss_per_kwh * hours * (nets.T @ linear.ravel()),
                    self.tariff.buy_per_kwh * hours,
                    -self.tariff.sell_per_kwh * hours,
                ]
            ),
            equal=sparse.bmat(
                [[own.equal, sparse.csc_matrix((own.equal.shape[0], 2 * periods))], [total, sparse.hstack([-spare, spare])]], format="csc"
            ),
            equal_to=np.concatenate([own.equal_to, np.zeros(periods)]),
            below=sparse.bmat(
                [
                    [own.below, empty],
                    [rows, sparse.csc_matrix((rows.shape[0], 2 * periods))],
                    [sparse.csc_matrix((2 * periods, own.linear.size)), -sparse.eye(2 * periods)],
                ],
                format="csc",
            ),
            below_to=np.concatenate([own.below_to, right, np.zeros(2 * periods)]),
        )
        upper = sparse.triu(sparse.block_diag([form, sparse.csc_matrix((2 * periods, 2 * periods))]), format="csc")
        found = solve(upper, program, "clearing everybody at once")
        parts = np.split(found[: own.linear.size], np.cumsum([item.program.linear.size for item in self.communities])[:-1])
        agreed = np.array([community.agreed_w(part) for community, part in zip(self.communities, parts, strict=True)])
        return Cleared(net_w=agreed[:, 0], import_limit_w=agreed[:, 1], export_limit_w=agreed[:, 2], solutions_kw=tuple(parts))

    def _select(self, block: str) -> sparse.csc_matrix:
        """The rows that pick one block of every community, in order of (community, interval)."""
        return sparse.block_diag(
            [sparse.eye(item.program.linear.size, format="csc")[item.place(block)] for item in self.communities], format="csc"
        )

    def _voltage_rows(self, import_w: FloatArray, export_w: FloatArray) -> tuple[sparse.csc_matrix, FloatArray]:
        rows, right = [], []
        fall = self.feeder.fall * W_PER_KW
        felt = np.flatnonzero(np.any(fall > 0.0, axis=1))
        for block, corner_w, upward in (("import_limit", import_w, False), ("export_limit", -export_w, True)):
            room = self.feeder.room(corner_w, upward=upward) - 2.0 * self.clearance_pu
            rows.append(sparse.kron(sparse.csc_matrix(fall[felt]), sparse.eye(self.feeder.periods)) @ self._select(block))
            right.append(room[felt].ravel())
        return sparse.vstack(rows, format="csc"), np.concatenate(right)
