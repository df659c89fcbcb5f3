"""Verified envelopes for the intervals ahead, the nearest first. A shell around `allocation` and `publication`; it chooses nothing itself.

Envelopes are computed in a thread, so that messages are taken meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from coordinator import recording
from coordinator import store as tables
from coordinator.aggregation.office import CommunityOffice
from coordinator.allocation import NOTHING, Allocator, Box
from coordinator.config import CoordinatorConfig
from coordinator.demand import LimitPair, NodeView, demand_grew, wanted
from coordinator.envelopes.certificate import Infeasible
from coordinator.envelopes.interior_point import AllocationError
from coordinator.errors import UnverifiedEnvelopeError
from coordinator.journal import Journal
from coordinator.market.agreed import agreed_limits
from coordinator.market.desk import MarketDesk
from coordinator.publication import Ledger
from protocols.clock import Clock
from protocols.messages import EnvelopeControl


class Horizon:
    """`default` is what holds where nothing was published, None while none is safe; `unsent` the controls that have to go out, by node."""

    def __init__(
        self,
        config: CoordinatorConfig,
        clock: Clock,
        allocator: Allocator,
        ledger: Ledger,
        journal: Journal,
        views: Mapping[str, NodeView],
        office: CommunityOffice | None,
        market: MarketDesk | None,
    ) -> None:
        self.default: Box | None = None
        self.unsent: dict[str, list[EnvelopeControl]] = {}
        self._config = config
        self._clock = clock
        self._allocator = allocator
        self._ledger = ledger
        self._journal = journal
        self._views = views
        self._office = office
        self._market = market
        self._considered: dict[float, dict[str, LimitPair]] = {}
        self._promised: dict[float, dict[str, LimitPair]] = {}

    async def verify_default(self, now_s: float) -> None:
        """Find the default that is safe for all nodes at once, and say where it is not the configured one."""
        default = await asyncio.to_thread(self._allocator.default_box)
        if isinstance(default, Infeasible):
            self._journal.event(now_s, "no-default", f"no default is safe: {default.reason}")
        else:
            self.default = default
            self._note_reduced_default(now_s, default)

    async def compute(self, now_s: float) -> int:
        """Compute the intervals that need it, the nearest first; return how many. What has to be sent goes to `unsent`."""
        self._journal.over("infeasible", "unverified", "tightened")
        self._ledger.forget(now_s)
        starts = self._ledger.starts(now_s)
        self._considered, self._promised = (
            {start_s: item for start_s, item in table.items() if start_s >= starts[0]} for table in (self._considered, self._promised)
        )
        computed = 0
        for start_s in starts:
            if self.default is None or computed >= self._config.envelopes.max_computations:
                break
            agreed = self._agreed(start_s)
            demand = {node: pair.covering(agreed.get(node, NOTHING)) for node, pair in self._demand(start_s).items()}
            is_known = not agreed or agreed == self._promised.get(start_s)
            if self._ledger.published(start_s) and is_known and not demand_grew(self._considered.get(start_s, {}), demand):
                continue
            computed += 1
            box = await self._box(self.default, start_s, agreed, demand, now_s)
            if box is not None:
                self._considered[start_s], self._promised[start_s] = demand, agreed
                self._accept(box, start_s, now_s)
        return computed

    def _agreed(self, start_s: float) -> dict[str, LimitPair]:
        """The envelopes that the mechanism, where there is one, has agreed with its nodes."""
        if self._market is None:
            return {}
        step_s = self._config.market.step_s
        return agreed_limits(self._market.agreed, step_s, start_s, start_s + self._config.envelopes.interval_s)

    def _demand(self, start_s: float) -> dict[str, LimitPair]:
        end_s = start_s + self._config.envelopes.interval_s
        if self._office is not None:
            now_s = self._clock.now_s()
            return {node.name: self._office.wanted(node, now_s, start_s, end_s) for node in self._config.nodes}
        return {node.name: wanted(self._config, node, self._views[node.name], start_s, end_s) for node in self._config.nodes}

    async def _box(
        self, default: Box, start_s: float, agreed: Mapping[str, LimitPair], demand: Mapping[str, LimitPair], now_s: float
    ) -> Box | None:
        """A box that contains everything outstanding, and what was agreed if that goes together; where there is none any more, one that
        contains the defaults.
        """
        defaults = default.limits
        outstanding = {node: self._ledger.floor(start_s, node, pair) for node, pair in defaults.items()}
        promised = {node: pair.covering(agreed[node]) if node in agreed else pair for node, pair in outstanding.items()}
        reason = ""
        for floors in (promised, outstanding, defaults) if agreed else (outstanding, defaults):
            try:
                box = await asyncio.to_thread(self._allocator.box, floors, demand)
            except (UnverifiedEnvelopeError, AllocationError) as error:
                self._journal.event(now_s, "unverified", str(error))
                return None
            if isinstance(box, Infeasible):
                reason = box.reason
                if floors is promised and agreed:
                    self._journal.note(now_s, "market", f"interval {start_s:.0f}: what was agreed does not go with what is out: {reason}")
                continue
            if floors is defaults and outstanding != defaults:
                words = f"interval {start_s:.0f}: earlier controls are no longer safe and were superseded"
                self._journal.event(now_s, "tightened", words)
            return box
        self._journal.event(now_s, "infeasible", f"interval {start_s:.0f}: no envelope, the default holds: {reason}")
        return None

    def _accept(self, box: Box, start_s: float, now_s: float) -> None:
        store = self._journal.store
        store.add(tables.envelopes, recording.envelope_row(box.result, start_s, self._config.envelopes.interval_s, now_s))
        for node, control in self._ledger.accept(start_s, box.limits, box.result.guarantee, now_s).items():
            self.unsent.setdefault(node, []).append(control)
            store.add(tables.controls, recording.control_row(node, control))

    def _note_reduced_default(self, now_s: float, default: Box) -> None:
        section = self._config.defaults
        for node in self._config.nodes:
            pair = default.limits[node.name]
            asked = min(section.import_w, node.import_rating_w), min(section.export_w, node.export_rating_w)
            if pair.import_w < asked[0] - 1.0 or pair.export_w < asked[1] - 1.0:
                self._journal.event(
                    now_s,
                    "default-reduced",
                    f"the configured default is not safe for all nodes at once; node {node.name} gets import {pair.import_w:.0f} W,"
                    f" export {pair.export_w:.0f} W",
                )
                return
