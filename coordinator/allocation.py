"""From what nodes want to verified boxes: calls the envelope computation, reuses what it found, and lets nothing unverified through.

A default must be safe while every node is on it at once, so it is verified like an envelope, and reduced in equal shares where the
configured one is not.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial

import msgspec

from coordinator.config import CoordinatorConfig
from coordinator.demand import LimitPair, network_limits, participant, passive_loads
from coordinator.envelopes import AllocationRule, EnvelopeProblem, EnvelopeResult, Infeasible, compute_envelopes, prepare
from coordinator.errors import UnverifiedEnvelopeError
from coordinator.network.model import Network

Compute = Callable[[EnvelopeProblem], EnvelopeResult | Infeasible]
NOTHING = LimitPair(import_w=0.0, export_w=0.0)
CACHED_RESULTS = 64


class Box(msgspec.Struct, frozen=True, kw_only=True):
    """Verified limits by node, and the result that verified them."""

    limits: dict[str, LimitPair]
    result: EnvelopeResult


class Allocator:
    """Computes boxes for one feeder. `compute` is `coordinator.envelopes`' computation by default; nothing but certificates counts."""

    def __init__(self, config: CoordinatorConfig, network: Network, compute: Compute | None = None) -> None:
        self._config = config
        self._network = network
        self._limits = network_limits(config)
        self._compute = partial(compute_envelopes, prepared=prepare(network, self._limits)) if compute is None else compute
        self._passive = passive_loads(config, network)
        self._found: OrderedDict[tuple[object, ...], EnvelopeResult | Infeasible] = OrderedDict()

    def box(self, floors: Mapping[str, LimitPair], wanted: Mapping[str, LimitPair]) -> Box | Infeasible:
        """The verified box that contains `floors` and goes as far towards `wanted` as the rule and the network let it."""
        return self._box(floors, wanted, self._config.envelopes.rule)

    def default_box(self) -> Box | Infeasible:
        """The configured default where it holds for all nodes at once, else the largest equal share of it that does."""
        section = self._config.defaults
        asked = {
            node.name: LimitPair(import_w=min(section.import_w, node.import_rating_w), export_w=min(section.export_w, node.export_rating_w))
            for node in self._config.nodes
        }
        whole = self._box(asked, asked, AllocationRule.EQUAL)
        if isinstance(whole, Box):
            return whole
        return self._box(dict.fromkeys(asked, NOTHING), asked, AllocationRule.EQUAL)

    def _box(self, floors: Mapping[str, LimitPair], wanted: Mapping[str, LimitPair], rule: AllocationRule) -> Box | Infeasible:
        nodes = self._config.nodes
        participants = tuple(participant(self._config, node, floors[node.name], wanted[node.name]) for node in nodes)
        key = (participants, rule)
        result = self._found.get(key)
        if result is None:
            result = self._compute(
                EnvelopeProblem(
                    network=self._network,
                    participants=participants,
                    passive=self._passive,
                    limits=self._limits,
                    rule=rule,
                    guarantee=self._config.envelopes.guarantee,
                )
            )
            self._found[key] = result
            if len(self._found) > CACHED_RESULTS:
                self._found.popitem(last=False)
        if isinstance(result, Infeasible):
            return result
        return self._checked(result, floors)

    def _checked(self, result: EnvelopeResult, floors: Mapping[str, LimitPair]) -> Box:
        """Read the limits out of the certificate, in whole watts, and refuse what it does not cover."""
        certificate = result.certificate
        if not certificate.check.holds or certificate.guarantee is not self._config.envelopes.guarantee:
            raise UnverifiedEnvelopeError(
                f"expected a passed check of class {self._config.envelopes.guarantee.value}, got {certificate.guarantee.value}"
            )
        verified = {envelope.connection: envelope for envelope in result.envelopes}
        limits = {}
        for node in self._config.nodes:
            envelope, floor = verified.get(node.connection), floors[node.name]
            if envelope is None or envelope.import_limit_w < floor.import_w - 1.0 or envelope.export_limit_w < floor.export_w - 1.0:
                raise UnverifiedEnvelopeError(f"the verified box does not contain what node {node.name} may be following already")
            limits[node.name] = LimitPair(
                import_w=max(float(math.floor(envelope.import_limit_w)), min(floor.import_w, envelope.import_limit_w)),
                export_w=max(float(math.floor(envelope.export_limit_w)), min(floor.export_w, envelope.export_limit_w)),
            )
        return Box(limits=limits, result=result)
