"""Bugs planted on purpose, to show that the simulator bites.

Each mutant changes the shipped code for the time of a `with` block in the way that a careless change would, and names the checkers that
must object. A checker that no mutant wakes is broken, and so is a simulator that lets one through.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

from msgspec import Struct

from protocols.election import rules
from protocols.election.effects import Effect, Persist
from protocols.election.node import Node, Role
from protocols.election.values import Certificate, Epoch, Timing, VoteRequest


class Mutant(Struct, frozen=True, kw_only=True):
    """A planted bug: what it breaks, a seed that catches it, and how it is planted."""

    name: str
    rule: str
    seed: int
    plant: Callable[[], contextlib.AbstractContextManager[Any]]


def quorum_of_half() -> contextlib.AbstractContextManager[Any]:
    def half(epoch: Epoch) -> int:
        return max(1, sum(seat.weight for seat in epoch.seats) // 2)

    return patch.object(Epoch, "quorum_weight", property(half))


def vote_not_durable() -> contextlib.AbstractContextManager[Any]:
    original = Node._on_request

    def forgetful(node: Node, request: VoteRequest, now_s: float) -> list[Effect]:
        return [effect for effect in original(node, request, now_s) if not isinstance(effect, Persist)]

    return patch.object(Node, "_on_request", forgetful)


def vote_sent_before_it_is_durable() -> contextlib.AbstractContextManager[Any]:
    original = Node._on_request

    def hasty(node: Node, request: VoteRequest, now_s: float) -> list[Effect]:
        return sorted(original(node, request, now_s), key=lambda effect: isinstance(effect, Persist))

    return patch.object(Node, "_on_request", hasty)


def votes_for_whoever_asks() -> contextlib.AbstractContextManager[Any]:
    original = Node._on_request

    def generous(node: Node, request: VoteRequest, now_s: float) -> list[Effect]:
        if node.ballot.term == request.term and node.role is not Role.LEADER:
            node.ballot = type(node.ballot)(epoch=request.epoch, term=request.term - 1, candidate=None, fence=node.ballot.fence)
        return original(node, request, now_s)

    return patch.object(Node, "_on_request", generous)


def weights_computed_locally() -> contextlib.AbstractContextManager[Any]:
    """Each member weighs those whom it has heard, not what is registered (two leaders in 15 of 600 runs of the prototype)."""

    def heard(node: Node, now_s: float) -> list[Effect]:
        registered = Epoch.quorum_weight
        seen = set(node._votes) | set(node._reports)
        with patch.object(Epoch, "quorum_weight", property(lambda epoch: max(2, (len(seen) + 2) // 2))):
            effects = original(node, now_s)
        assert Epoch.quorum_weight is registered
        return effects

    original = Node._elected
    return _together(patch.object(Node, "_elected", heard), patch.object(rules, "check_certificate", lambda epoch, certificate: None))


def forgets_that_it_forgot() -> contextlib.AbstractContextManager[Any]:
    original = Node.__init__

    def careless(node: Node, *arguments: Any, **named: Any) -> None:
        original(node, *arguments, **{**named, "founding": True})

    return patch.object(Node, "__init__", careless)


def breaks_its_promise() -> contextlib.AbstractContextManager[Any]:
    return patch.object(Timing, "promise_s", property(lambda timing: 0.3 * timing.lease_s))


def lease_from_the_acknowledgement() -> contextlib.AbstractContextManager[Any]:
    original = Node._on_ack

    def late(node: Node, ack: Any, now_s: float) -> list[Effect]:
        if ack.number in node._sent_s:
            node._sent_s[ack.number] = now_s
        return original(node, ack, now_s)

    return patch.object(Node, "_on_ack", late)


def leads_without_a_lease() -> contextlib.AbstractContextManager[Any]:
    return patch.object(Node, "may_act", lambda node, now_s: node.role is Role.LEADER)


def stale_fence() -> contextlib.AbstractContextManager[Any]:
    """Actuates what any leader with any certificate says."""
    seen: dict[int, set[tuple[int, str]]] = {}
    original = Node._on_certificate

    def note(node: Node, certificate: Certificate, now_s: float) -> list[Effect]:
        seen.setdefault(id(node), set()).add((certificate.term, certificate.leader))
        return original(node, certificate, now_s)

    def accepts(node: Node, sender: str, term: int) -> bool:
        return (term, sender) in seen.get(id(node), set())

    return _together(patch.object(Node, "_on_certificate", note), patch.object(Node, "accepts", accepts))


def fence_not_durable() -> contextlib.AbstractContextManager[Any]:
    original = Node._on_certificate

    def forgetful(node: Node, certificate: Certificate, now_s: float) -> list[Effect]:
        return [effect for effect in original(node, certificate, now_s) if not isinstance(effect, Persist)]

    return patch.object(Node, "_on_certificate", forgetful)


def follows_backwards() -> contextlib.AbstractContextManager[Any]:
    """A certificate of an older term is followed as if it were new."""
    original = Node._on_certificate

    def backwards(node: Node, certificate: Certificate, now_s: float) -> list[Effect]:
        ballot = node.ballot
        if certificate.term < ballot.fence:
            node.ballot = type(ballot)(epoch=ballot.epoch, term=ballot.term, candidate=ballot.candidate, fence=certificate.term - 1)
        return original(node, certificate, now_s)

    return patch.object(Node, "_on_certificate", backwards)


def stays_as_long_as_it_likes() -> contextlib.AbstractContextManager[Any]:
    return patch.object(rules, "may_still_lead", lambda epoch, timing, followed_s, now_s: True)


@contextlib.contextmanager
def _together(*patches: contextlib.AbstractContextManager[Any]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for planted in patches:
            stack.enter_context(planted)
        yield


MUTANTS: tuple[Mutant, ...] = (
    Mutant(name="quorum of half", rule="2: more than half of the registered weight", seed=19, plant=quorum_of_half),
    Mutant(name="vote not durable", rule="1: a vote is on disk", seed=6, plant=vote_not_durable),
    Mutant(name="vote sent first", rule="1: on disk before it is sent", seed=88, plant=vote_sent_before_it_is_durable),
    Mutant(name="votes for whoever asks", rule="1: at most once in a term", seed=0, plant=votes_for_whoever_asks),
    Mutant(name="weights computed locally", rule="2: registered weight, whatever is seen", seed=9, plant=weights_computed_locally),
    Mutant(name="forgets that it forgot", rule="6: no vote without memory", seed=144, plant=forgets_that_it_forgot),
    Mutant(name="breaks its promise", rule="3: no vote within a promise", seed=55, plant=breaks_its_promise),
    Mutant(name="lease from the acknowledgement", rule="4: counted from when it was sent", seed=116, plant=lease_from_the_acknowledgement),
    Mutant(name="leads without a lease", rule="4: acts only within its lease", seed=85, plant=leads_without_a_lease),
    Mutant(name="stale fence", rule="5: only the highest term", seed=7, plant=stale_fence),
    Mutant(name="fence not durable", rule="5: the fence is on disk", seed=1131, plant=fence_not_durable),
    Mutant(name="follows backwards", rule="5: never below the fence", seed=140, plant=follows_backwards),
    Mutant(name="stays as long as it likes", rule="7: members hold a leader to its tenure", seed=235, plant=stays_as_long_as_it_likes),
)
