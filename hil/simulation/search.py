"""Every schedule of a small election: an exhaustive search over the shipped member's code.

The adversary owns time and the network: any member may stand at any moment, any message that was ever sent may be delivered to any
member it was sent to, now, later, twice or never. Promises and leases are off, since "at most one leader per term" must not rest on time.

Three reductions keep the search small, and none hides a schedule with two leaders. States that differ only in the members' names are one
state. A candidate takes all votes that were sent to it at once: whatever it could do after fewer of them, it can do after all of them,
since votes only add up. A crash with its disk kept is not drawn, because after every step the search asserts that the disk holds all that
the member knows of its votes; what a restart loses is the right to count votes, and a candidate or leader may stand anew at any moment.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import lru_cache
from itertools import permutations
from typing import Final
from unittest.mock import patch

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct

from protocols.election import rules
from protocols.election.effects import Effect, Persist, Send
from protocols.election.node import Node, Role
from protocols.election.values import Ballot, Certificate, Epoch, Seat, Timing, Vote, VoteRequest

TIMELESS: Final = Timing(lease_s=0.0, stagger_s=0.0, candidacy_s=1e9, tenure_s=1e9)
NOW_S: Final = 1.0

Said = tuple[str, int, int, int]
"""(kind, term, about, by): a vote request of `about`, a vote of `by` for `about`, or a certificate of `about`."""
Mind = tuple[int, int, int]
"""(term, candidate or -1, fence) of one member: its ballot."""
State = tuple[tuple[Mind, ...], frozenset[Said]]


class Found(Struct, frozen=True, kw_only=True):
    """What the search saw: how many states, and the terms with two leaders."""

    states: int
    violations: tuple[str, ...]


def search(members: int, terms: int, *, limit: int | None = None) -> Found:
    """Visit every reachable state with at most `members` members and `terms` terms, or stop at `limit` states."""
    with _fast_signatures():
        return _Search(members, terms).run(limit)


class _Search:
    def __init__(self, members: int, terms: int) -> None:
        self._terms = terms
        self._names = [f"h{i}" for i in range(members)]
        self._orders = list(permutations(range(members)))
        self._keys = [Ed25519PrivateKey.from_private_bytes(bytes([i + 1]) * 32) for i in range(members)]
        seats = tuple(
            Seat(name=name, public_key=key.public_key().public_bytes_raw().hex(), reputation=1.0)
            for name, key in zip(self._names, self._keys, strict=True)
        )
        self._epoch = Epoch(number=1, seats=seats, reputation_min=0.0, seed="00" * 32)

    def run(self, limit: int | None) -> Found:
        mind: Mind = (0, -1, 0)
        first: State = (tuple(mind for _ in self._names), frozenset())
        seen = {self._canonical(first)}
        frontier = [first]
        violations: set[str] = set()
        while frontier and (limit is None or len(seen) < limit):
            state = frontier.pop()
            for following in self._successors(state):
                name = self._canonical(following)
                if name not in seen:
                    seen.add(name)
                    frontier.append(following)
                    violations.update(_two_leaders(following[1]))
        return Found(states=len(seen), violations=tuple(sorted(violations)))

    def _successors(self, state: State) -> Iterator[State]:
        minds, said = state
        for index, mind in enumerate(minds):
            if max(mind[0], mind[2]) < self._terms:
                yield self._after(state, index, lambda node: node._stand(NOW_S))
            if mind[1] == index and mind[0] > mind[2]:
                votes = self._votes(mind[0], index, said)
                yield self._after(state, index, lambda node, ms=votes: [e for m in ms for e in node.receive(m.voter, m, NOW_S)])  # type: ignore[misc]
            for kind, term, about, _ in said:
                if kind == "request" and about != index and term >= mind[0] and term > mind[2]:
                    request = VoteRequest(epoch=1, term=term, candidate=self._names[about])
                    yield self._after(state, index, lambda node, m=request, s=about: node.receive(self._names[s], m, NOW_S))  # type: ignore[misc]
                elif kind == "certificate" and about != index and term > mind[2]:
                    certificate = self._certificate(term, about, said)
                    yield self._after(state, index, lambda node, m=certificate, s=about: node.receive(self._names[s], m, NOW_S))  # type: ignore[misc]

    def _after(self, state: State, index: int, step: Callable[[Node], list[Effect]]) -> State:
        minds, said = state
        node = self._node(index, minds[index], said)
        disk = node.ballot
        new: set[Said] = set()
        for effect in step(node):
            match effect:
                case Persist():
                    disk = effect.ballot
                case Send(message=VoteRequest() as request):
                    new.add(("request", request.term, index, index))
                case Send(message=Vote() as vote):
                    new.add(("vote", vote.term, self._names.index(vote.candidate), index))
                case Send(message=Certificate() as certificate) if certificate.leader == node.name:
                    new.add(("certificate", certificate.term, index, index))
        assert disk == node.ballot, "what a member knows of its votes is on its disk"
        candidate = -1 if disk.candidate is None else self._names.index(disk.candidate)
        return self._with(state, index, (disk.term, candidate, disk.fence), said | new)

    def _with(self, state: State, index: int, mind: Mind, said: frozenset[Said]) -> State:
        minds = list(state[0])
        minds[index] = mind
        return tuple(minds), said

    def _node(self, index: int, mind: Mind, said: frozenset[Said]) -> Node:
        node = copy.copy(self._template(index))
        term, candidate, fence = mind
        node.ballot = Ballot(epoch=1, term=term, candidate=None if candidate < 0 else self._names[candidate], fence=fence)
        node.role = Role.CANDIDATE if candidate == index and term > fence else Role.FOLLOWER
        node._sent_s, node._acks = {}, {}
        own = rules.sign_vote(self._keys[index], self._epoch, term, node.name, node.name)
        node._votes = {node.name: own} if node.role is Role.CANDIDATE else {}
        return node

    @lru_cache(maxsize=8)  # noqa: B019  one search lives as long as its process needs it
    def _template(self, index: int) -> Node:
        return Node(
            self._names[index], self._epoch, self._keys[index], TIMELESS, 0.0, ballot=None, nonce="00" * 32, founding=True
        )

    def _votes(self, term: int, candidate: int, said: frozenset[Said]) -> list[Vote]:
        """All votes for this candidate that were ever sent."""
        voters = sorted(by for kind, at, about, by in said if kind == "vote" and at == term and about == candidate)
        return [rules.sign_vote(self._keys[by], self._epoch, term, self._names[candidate], self._names[by]) for by in voters]

    def _certificate(self, term: int, leader: int, said: frozenset[Said]) -> Certificate:
        """The certificate that this leader made; any quorum of the votes for it is as good as the one it counted."""
        own = rules.sign_vote(self._keys[leader], self._epoch, term, self._names[leader], self._names[leader])
        votes = tuple((vote.voter, vote.signature) for vote in (own, *self._votes(term, leader, said)))
        return Certificate(epoch=1, term=term, leader=self._names[leader], held=1, backups=(), votes=votes)

    def _canonical(self, state: State) -> State:
        """The least of the states that differ only in who is who."""
        minds, said = state
        best: State | None = None
        best_key: tuple[tuple[Mind, ...], tuple[Said, ...]] | None = None
        ordered = sorted(range(len(minds)), key=lambda i: minds[i][0::2])
        shape = [minds[i][0::2] for i in ordered]
        for order in self._orders:
            if [minds[i][0::2] for i in order] != shape:
                continue
            rank = {old: new for new, old in enumerate(order)}
            rank[-1] = -1
            renamed = tuple((minds[old][0], rank[minds[old][1]], minds[old][2]) for old in order)
            words = tuple(sorted((kind, term, rank[about], rank[by]) for kind, term, about, by in said))
            if best_key is None or (renamed, words) < best_key:
                best_key = (renamed, words)
                best = (renamed, frozenset(words))
        assert best is not None
        return best


def _two_leaders(said: frozenset[Said]) -> Iterator[str]:
    leaders: dict[int, int] = {}
    for kind, term, about, _ in sorted(said):
        if kind == "certificate" and leaders.setdefault(term, about) != about:
            yield f"term {term} has two leaders"


def _fast_signatures() -> AbstractContextManager[object]:
    """Sign each of the few different votes once."""
    return patch.object(rules, "sign_vote", lru_cache(maxsize=4096)(rules.sign_vote))
