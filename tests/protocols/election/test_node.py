"""The rules of `protocols.election.node`, one by one, on a network that delivers at once. Faults are drawn in the bench's simulator."""

from __future__ import annotations

import itertools
from collections import Counter

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocols.election import rules
from protocols.election.effects import Effect, Expose, Follow, Persist, Send, StepDown
from protocols.election.node import Node, Role
from protocols.election.values import (
    Ballot,
    Certificate,
    ElectionMessage,
    Epoch,
    Heartbeat,
    Resignation,
    Seat,
    TermReport,
    Timing,
    Vote,
    VoteRequest,
)

TIMING = Timing()
STEP_S = 0.05


def key(index: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([index + 1]) * 32)


def epoch(size: int, reputations: tuple[float, ...] = ()) -> Epoch:
    seats = tuple(
        Seat(
            name=f"h{i}",
            public_key=key(i).public_key().public_bytes_raw().hex(),
            reputation=reputations[i] if reputations else 0.8,
        )
        for i in range(size)
    )
    return Epoch(number=1, seats=seats, reputation_min=0.6, seed="00" * 32)


class Street:
    """Nodes on a network without faults; `cut` members hear and say nothing."""

    def __init__(self, size: int, timing: Timing = TIMING, reputations: tuple[float, ...] = ()) -> None:
        self.now_s = 0.0
        self.epoch = epoch(size, reputations)
        self.timing = timing
        self.disk: dict[str, Ballot] = {}
        self.cut: set[str] = set()
        self.said: list[tuple[str, ElectionMessage]] = []
        self.stepped_down: list[str] = []
        self.nodes = {f"h{i}": self.boot(i, founding=True) for i in range(size)}

    def boot(self, index: int, *, founding: bool = False, disk: bool = True) -> Node:
        ballot = self.disk.get(f"h{index}") if disk else None
        return Node(
            f"h{index}", self.epoch, key(index), self.timing, self.now_s, ballot=ballot, nonce="ab" * 32, founding=founding
        )

    def carry_out(self, name: str, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Persist():
                    self.disk[name] = effect.ballot
                case StepDown():
                    self.stepped_down.append(name)
                case Send():
                    self.said.append((name, effect.message))
                    if name not in self.cut:
                        receivers = [effect.to] if effect.to is not None else [other for other in self.nodes if other != name]
                        for receiver in receivers:
                            if receiver not in self.cut:
                                self.carry_out(receiver, self.nodes[receiver].receive(name, effect.message, self.now_s))
                case Follow():
                    pass

    def run(self, duration_s: float) -> None:
        for _ in range(round(duration_s / STEP_S)):
            self.now_s += STEP_S
            for name, node in self.nodes.items():
                self.carry_out(name, node.tick(self.now_s))
            assert len(self.acting()) <= 1

    def acting(self) -> list[str]:
        return [name for name, node in self.nodes.items() if node.may_act(self.now_s)]

    def kill(self, name: str) -> None:
        self.cut.add(name)
        self.carry_out(name, self.nodes[name].disconnected(self.now_s))
        for other, node in self.nodes.items():
            if other not in self.cut:
                self.carry_out(other, node.will(name, self.now_s))

    def leader(self) -> str:
        [name] = self.acting()
        return name


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7])
def test_a_community_elects_exactly_one_leader_and_keeps_it(size: int) -> None:
    street = Street(size)
    street.run(5.0)
    first = street.leader()
    street.run(20.0)
    assert street.leader() == first
    assert {node.term for node in street.nodes.values()} == {1}


def test_a_killed_leader_is_replaced_by_its_first_backup_at_once() -> None:
    street = Street(5)
    street.run(5.0)
    first = street.leader()
    certificate = street.nodes[first].certificate
    assert certificate is not None
    street.kill(first)
    street.run(0.1)
    assert street.leader() == certificate.backups[0]


def test_a_frozen_leader_is_replaced_after_its_lease() -> None:
    street = Street(5)
    street.run(5.0)
    first = street.leader()
    street.cut.add(first)
    street.run(1.5)
    assert street.leader() == first
    street.run(1.0)
    assert street.leader() != first
    assert first in street.stepped_down


def test_a_minority_elects_nobody() -> None:
    street = Street(5)
    street.run(5.0)
    street.cut = {"h0", "h1", "h2"}
    street.run(10.0)
    assert street.acting() == []


def test_half_of_the_registered_members_is_not_a_quorum() -> None:
    street = Street(4)
    street.cut = {"h0", "h1"}
    street.run(10.0)
    assert street.acting() == []


def test_a_member_below_the_reputation_threshold_never_leads() -> None:
    street = Street(5, reputations=(0.5, 0.9, 0.5, 0.5, 0.5))
    street.run(5.0)
    assert street.leader() == "h1"
    street.kill("h1")
    street.run(10.0)
    assert street.acting() == []


def test_nobody_holds_the_seat_for_ever() -> None:
    street = Street(5, Timing(tenure_s=3.0))
    leaders = []
    for _ in range(60):
        street.run(1.0)
        leaders += street.acting()
    assert len(set(leaders)) >= 3
    assert max(len(list(group)) for _, group in itertools.groupby(leaders)) <= 4


def test_a_vote_is_on_disk_before_it_is_sent() -> None:
    voter = Street(3).nodes["h1"]
    effects = voter.receive("h0", VoteRequest(epoch=1, term=7, candidate="h0"), 10.0)
    assert [type(effect) for effect in effects] == [Persist, Send]
    persist, send = effects
    assert isinstance(persist, Persist)
    assert isinstance(send, Send)
    assert isinstance(send.message, Vote)
    assert (persist.ballot.term, persist.ballot.candidate) == (7, "h0")


def test_a_member_votes_once_in_a_term_also_after_a_restart() -> None:
    street = Street(3)
    street.now_s = 10.0
    street.carry_out("h1", street.nodes["h1"].receive("h0", VoteRequest(epoch=1, term=7, candidate="h0"), 10.0))
    again = street.nodes["h1"].receive("h2", VoteRequest(epoch=1, term=7, candidate="h2"), 10.0)
    assert again == []
    rebooted = street.boot(1)
    assert rebooted.receive("h2", VoteRequest(epoch=1, term=7, candidate="h2"), 20.0) == []
    [repeat] = rebooted.receive("h0", VoteRequest(epoch=1, term=7, candidate="h0"), 20.0)
    assert isinstance(repeat, Send)


def test_a_member_that_just_started_votes_for_nobody_until_old_promises_are_over() -> None:
    street = Street(3)
    assert street.nodes["h1"].receive("h0", VoteRequest(epoch=1, term=1, candidate="h0"), 0.5 * TIMING.promise_s) == []


def test_a_member_without_memory_abstains_asks_and_then_votes_only_above_what_it_learnt() -> None:
    street = Street(5)
    street.run(5.0)
    leader = street.leader()
    lost = next(name for name in street.nodes if name != leader)
    street.nodes[lost] = street.boot(int(lost[1]), disk=False)
    node = street.nodes[lost]
    assert node.amnesiac
    assert node.receive("h0", VoteRequest(epoch=1, term=99, candidate="h0"), street.now_s + 1.7) == []
    street.run(TIMING.amnesia_s + 2.0)
    assert not node.amnesiac
    assert street.disk[lost].term >= 1
    assert street.disk[lost].candidate is None


def test_a_member_without_memory_writes_nothing_that_would_hide_its_loss() -> None:
    street = Street(3)
    street.run(5.0)
    certificate = next(node.certificate for node in street.nodes.values() if node.certificate is not None)
    index = next(index for index in range(3) if f"h{index}" != certificate.leader)
    node = street.boot(index, disk=False)
    effects = node.receive(certificate.leader, certificate, street.now_s)
    assert Follow(certificate) in effects
    assert not any(isinstance(effect, Persist) for effect in effects)


def test_a_majority_without_memory_elects_nobody() -> None:
    street = Street(3)
    street.run(5.0)
    for index in (0, 1):
        street.nodes[f"h{index}"] = street.boot(index, disk=False)
    street.run(10.0)
    assert sum(node.amnesiac for node in street.nodes.values()) == 2


def test_an_old_leader_that_thaws_learns_the_new_term_and_is_never_followed() -> None:
    street = Street(5)
    street.run(5.0)
    old = street.leader()
    street.cut.add(old)
    street.run(4.0)
    new = street.leader()
    street.cut.clear()
    stale = Heartbeat(epoch=1, term=1, leader=old, number=99, renew=True)
    for name in street.nodes:
        if name not in (old, new):
            effects = street.nodes[name].receive(old, stale, street.now_s)
            assert all(isinstance(effect, Send) and isinstance(effect.message, Certificate) for effect in effects)
    street.run(1.0)
    assert street.nodes[old].term == street.nodes[new].term


def test_a_certificate_is_checked_by_anyone() -> None:
    street = Street(5)
    street.run(5.0)
    certificate = street.nodes[street.leader()].certificate
    assert certificate is not None
    rules.check_certificate(street.epoch, certificate)
    one = certificate.votes[0]
    forgeries = {
        "quorum": {"votes": certificate.votes[:2]},
        "verify": {"term": certificate.term + 1},
        "quorum ": {"votes": (one, one, one)},
        "epoch": {"epoch": 2},
        "may not lead": {"leader": "ghost"},
    }
    for words, changes in forgeries.items():
        with pytest.raises(rules.CertificateRefused, match=words.strip()):
            rules.check_certificate(street.epoch, msgspec.structs.replace(certificate, **changes))


def test_a_forged_vote_or_certificate_changes_nothing() -> None:
    street = Street(3)
    street.run(5.0)
    leader = street.leader()
    other = next(name for name in street.nodes if name != leader)
    certificate = street.nodes[leader].certificate
    assert certificate is not None
    forged = msgspec.structs.replace(certificate, term=9, leader=other)
    assert street.nodes[leader].receive(other, forged, street.now_s) == []
    assert street.leader() == leader


def test_whoever_speaks_for_another_is_not_heard() -> None:
    node = Street(3).nodes["h1"]
    assert node.receive("h2", VoteRequest(epoch=1, term=7, candidate="h0"), 10.0) == []
    assert node.receive("ghost", VoteRequest(epoch=1, term=7, candidate="ghost"), 10.0) == []
    assert node.receive("h0", VoteRequest(epoch=2, term=7, candidate="h0"), 10.0) == []


def test_reputation_is_preferred_in_proportion_to_its_square() -> None:
    """Measured over terms: the chance to be first is R_i^2 over the sum of all R_j^2."""
    community = epoch(4, (1.0, 0.9, 0.8, 0.7))
    firsts = Counter(rules.ranking(community, term)[0] for term in range(4000))
    weights = [1.0, 0.81, 0.64, 0.49]
    for index, weight in enumerate(weights):
        assert firsts[f"h{index}"] / 4000 == pytest.approx(weight / sum(weights), abs=0.03)


def test_a_role_is_a_word() -> None:
    assert repr(Street(1).nodes["h0"]).startswith("Node(h0, follower")
    assert Role.LEADER.value == "leader"


def certificate_of(one: Epoch, leader: str, voters: tuple[int, ...], term: int = 7) -> Certificate:
    votes = tuple((f"h{i}", rules.sign_vote(key(i), one, term, leader, f"h{i}").signature) for i in voters)
    return Certificate(epoch=one.number, term=term, leader=leader, held=1, backups=(), votes=votes)


def test_a_vote_counts_in_the_very_epoch_it_was_given_in_and_in_no_other_of_that_number() -> None:
    """Another community, a region, or an operator that tells two members different things: one number, other seats."""
    mine = epoch(5)
    others = [
        msgspec.structs.replace(mine, seed="11" * 32),
        msgspec.structs.replace(mine, reputation_min=0.1),
        msgspec.structs.replace(mine, seats=mine.seats[:4]),
    ]
    for other in others:
        certificate = certificate_of(other, "h0", (0, 1, 2))
        rules.check_certificate(other, certificate)
        with pytest.raises(rules.CertificateRefused, match="does not verify"):
            rules.check_certificate(mine, certificate)
        assert not rules.vote_is_valid(mine, rules.sign_vote(key(1), other, 7, "h0", "h1"))


def test_one_member_cannot_use_up_the_terms() -> None:
    voter = Street(3).nodes["h1"]
    for term in (2**53 - 1, rules.TERM_LEAP + 1):
        assert voter.receive("h0", VoteRequest(epoch=1, term=term, candidate="h0"), 10.0) == []
    assert voter.ballot.term == 0
    assert voter.receive("h0", VoteRequest(epoch=1, term=1000, candidate="h0"), 10.0) != []


def test_one_absurd_report_does_not_silence_a_member_that_lost_its_memory() -> None:
    street = Street(5)
    street.run(3.0)
    node = street.boot(4, disk=False)
    street.nodes["h4"] = node
    assert node.amnesiac
    for name, term in (("h0", 2**53 - 1), ("h1", 3), ("h2", 5)):
        report = TermReport(epoch=1, term=term, member=name, nonce="ab" * 32)
        street.carry_out("h4", node.receive(name, report, street.now_s))
    assert not node.amnesiac and node.ballot.term == 5


def test_a_leader_that_will_not_resign_loses_its_seat_when_its_tenure_is_over() -> None:
    street = Street(5, Timing(tenure_s=3.0))
    street.run(2.0)
    first = street.leader()
    street.nodes[first]._timing = Timing(tenure_s=1e9)
    street.run(6.0)
    assert street.leader() != first


def test_whoever_led_last_and_stands_at_once_is_left_waiting_until_the_others_had_their_turn() -> None:
    street = Street(5, Timing(tenure_s=3.0))
    street.run(2.0)
    first = street.leader()
    voter = next(node for name, node in street.nodes.items() if name != first)
    released_s = street.now_s + 0.01
    voter.receive(first, Resignation(epoch=1, term=voter.term, leader=first), released_s)
    request = VoteRequest(epoch=1, term=voter.term + 1, candidate=first)
    assert voter.receive(first, request, released_s) == []
    assert [type(effect) for effect in voter.receive(first, request, released_s + 4 * TIMING.stagger_s)] == [Persist, Send]


def test_two_leaders_of_one_term_expose_who_voted_twice_and_change_nothing() -> None:
    street = Street(5)
    first = certificate_of(street.epoch, "h0", (0, 1, 2))
    second = certificate_of(street.epoch, "h3", (2, 3, 4))
    node = street.nodes["h1"]
    street.carry_out("h1", node.receive("h0", first, 10.0))
    [exposed] = node.receive("h3", second, 10.1)
    assert exposed == Expose(("h2",), first, second)
    assert node.accepts("h0", 7) and not node.accepts("h3", 7)
    forged = msgspec.structs.replace(second, votes=(*second.votes[1:], ("h1", second.votes[0][1])))
    assert rules.double_voters(street.epoch, first, forged) == ()
    assert node.receive("h0", first, 10.2) == [], "the same certificate again is none"
    assert rules.double_voters(street.epoch, first, certificate_of(street.epoch, "h3", (2, 3, 4), term=8)) == ()
