"""One member of an election, without input or output: messages and time go in, effects come out, in the order to carry them out.

The rules that keep it honest (Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm", 2014, sections 5.2 and 9.6,
adapted to signed votes and leases; Li et al. 2026, section 4.4, for reputation):

1. A member votes at most once in a term, and its vote is on disk before it is sent: `Persist` precedes `Send` in the effects.
2. A quorum is more than half of the registered weight, whatever is seen.
3. A member that acknowledged a heartbeat, or that has just started, votes for nobody else until its promise has run out. The leader's
   last will or resignation releases the promise: the broker has cut it off, so nothing that it still says can arrive.
4. A leader acts only within its lease, which a quorum of acknowledgements extends, counted from when the heartbeat was *sent*.
5. Nobody follows a term below the highest one whose certificate it has checked (the fence, on disk).
6. A member that lost its memory abstains until no candidacy that had its vote can still be counted, then asks, and votes again only
   above the highest term that a quorum of the others reports. Others without memory do not answer. Until then nothing is written:
   a ballot on the disk would say after the next restart that nothing was lost.
7. Members hold a leader to its tenure: past it they promise nothing more, and whoever led last is voted for after the others had their
   turn. A request far beyond every known term is not believed, or one member could use all terms up.

| role | on | does | becomes |
|---|---|---|---|
| follower | promise over, and its turn in the ranking | new term, persist, ask for votes | candidate |
| candidate | votes of a quorum | certificate, first heartbeat | leader |
| candidate | `candidacy_s` over, or a valid certificate | nothing | follower |
| leader | lease over, higher certificate, cut off | stops acting | follower |
| leader | tenure over | resigns | follower |
| any | valid certificate at or above the fence | persists the fence, follows | follower |

Time is the member's monotonic clock; wall clocks play no part. It must run on while the process is frozen or the machine asleep
(CLOCK_BOOTTIME): rules 4 and 6 measure how long others have been waiting.
"""

from __future__ import annotations

from enum import StrEnum

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocols.election import rules
from protocols.election.effects import Effect, Expose, Follow, Persist, Send, StepDown
from protocols.election.values import (
    Ballot,
    Certificate,
    CertificateQuery,
    ElectionMessage,
    Epoch,
    Heartbeat,
    HeartbeatAck,
    Resignation,
    TermQuery,
    TermReport,
    Timing,
    Vote,
    VoteRequest,
)


class Role(StrEnum):
    """What a member does in the present term."""

    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    LEADER = "leader"


class Node:
    """One member. `step` functions return effects; the caller carries them out in order and owns time, disk and network."""

    def __init__(
        self,
        name: str,
        epoch: Epoch,
        key: Ed25519PrivateKey,
        timing: Timing,
        now_s: float,
        *,
        ballot: Ballot | None,
        nonce: str,
        founding: bool = False,
    ) -> None:
        """`ballot` is what the disk has; None means lost memory, unless the community is being founded. `nonce` is fresh randomness."""
        self.name = name
        self.epoch = epoch
        self.role = Role.FOLLOWER
        self.certificate: Certificate | None = None
        self._key = key
        self._timing = timing
        self._nonce = nonce
        fresh = ballot is not None and ballot.epoch == epoch.number
        self.amnesiac = not fresh and not founding
        self.ballot = ballot if ballot is not None and fresh else Ballot(epoch=epoch.number, term=0, candidate=None, fence=0)
        self._promise_until_s = now_s + timing.promise_s
        self._remember_after_s = now_s + timing.amnesia_s
        self._reports: dict[str, int] = {}
        self._asked_s = float("-inf")
        self._votes: dict[str, Vote] = {}
        self._requested_s = 0.0
        self._attempts = 0
        self._heartbeat_number = 0
        self._heartbeat_due_s = 0.0
        self._sent_s: dict[int, float] = {}
        self._acks: dict[int, set[str]] = {}
        self._lease_until_s = float("-inf")
        self._elected_s = self._followed_s = 0.0
        self._ranked: tuple[int, Certificate | None, tuple[str, ...]] = (-1, None, ())

    def __repr__(self) -> str:
        return f"Node({self.name}, {self.role.value}, term {self.ballot.term}, fence {self.ballot.fence})"

    def may_act(self, now_s: float) -> bool:
        """Whether this member is the leader and within its lease: asked before every actuation."""
        return self.role is Role.LEADER and now_s < self._lease_until_s

    def accepts(self, sender: str, term: int) -> bool:
        """Whether a command under this term may be actuated: only from the leader of the highest term that was checked."""
        certificate = self.certificate
        return (
            not self.amnesiac
            and certificate is not None
            and certificate.leader == sender
            and certificate.term == term
            and term == self.ballot.fence
        )

    @property
    def term(self) -> int:
        """The fencing token: the highest term whose certificate was checked."""
        return self.ballot.fence

    def receive(self, sender: str, message: ElectionMessage, now_s: float) -> list[Effect]:
        """Take one message whose sender was authenticated. Whatever breaks a rule changes nothing."""
        if message.epoch != self.epoch.number or sender not in self.epoch.names:
            return []
        match message:
            case Certificate():
                return self._on_certificate(message, now_s)
            case VoteRequest() if message.candidate == sender:
                return self._on_request(message, now_s)
            case Vote() if message.voter == sender:
                return self._on_vote(message, now_s)
            case Heartbeat() if message.leader == sender:
                return self._on_heartbeat(message, now_s)
            case HeartbeatAck() if message.member == sender:
                return self._on_ack(message, now_s)
            case Resignation() if message.leader == sender:
                return self._release(message.leader, message.term, now_s)
            case CertificateQuery() if message.member == sender:
                return self._answer(message)
            case TermQuery() if message.member == sender and not self.amnesiac:
                return [self._report(message)]
            case TermReport() if message.member == sender:
                return self._on_report(message, now_s)
            case _:
                return []

    def will(self, name: str, now_s: float) -> list[Effect]:
        """The broker published this member's last will: its connection is gone."""
        return self._release(name, self.ballot.fence, now_s)

    def disconnected(self, now_s: float) -> list[Effect]:
        """This member's own connection is gone: whatever it says now could arrive after its will."""
        return self._step_down("the connection to the broker is lost", now_s)

    def tick(self, now_s: float) -> list[Effect]:
        """Do what is due. Call at least every `heartbeat_s / 2`."""
        if self.amnesiac:
            return self._remember(now_s)
        match self.role:
            case Role.LEADER:
                return self._lead(now_s)
            case Role.CANDIDATE if now_s >= self._requested_s + self._timing.candidacy_s:
                self._give_up()
                return []
            case Role.FOLLOWER if now_s >= self._promise_until_s and now_s >= self._turn_s():
                return self._stand(now_s)
            case _:
                return []

    def _turn_s(self) -> float:
        """When this member may stand: its promise is over and those before it in the ranking had their chance."""
        order = self._order(max(self.ballot.term, self.ballot.fence) + 1)
        if self.name not in order:
            return float("inf")
        spread = rules.draw(self.epoch, self.ballot.term + 1, self.name) if self._attempts else 0.0
        patience = (order.index(self.name) + spread) * self._timing.stagger_s * 2.0 ** min(self._attempts, 4)
        since_s = max(self._promise_until_s, self._requested_s + self._timing.candidacy_s if self._attempts else self._promise_until_s)
        return since_s + patience

    def _order(self, term: int) -> tuple[str, ...]:
        """The ranking of a term, with the last known leader last: it resigned, was cut off, or fell silent."""
        last = self.certificate
        if self._ranked[:2] != (term, last):
            leader, held = (None, 0) if last is None else (last.leader, last.held)
            order = rules.ranking(self.epoch, term, incumbent=leader, held=held)
            self._ranked = (term, last, tuple(sorted(order, key=lambda name: name == leader)))
        return self._ranked[2]

    def _stand(self, now_s: float) -> list[Effect]:
        term = max(self.ballot.term, self.ballot.fence) + 1
        self.ballot = Ballot(epoch=self.epoch.number, term=term, candidate=self.name, fence=self.ballot.fence)
        self.role = Role.CANDIDATE
        self._requested_s = now_s
        self._attempts += 1
        self._votes = {self.name: rules.sign_vote(self._key, self.epoch, term, self.name, self.name)}
        request = VoteRequest(epoch=self.epoch.number, term=term, candidate=self.name)
        return [Persist(self.ballot), Send(request), *self._elected(now_s)]

    def _give_up(self) -> None:
        self.role = Role.FOLLOWER
        self._votes = {}

    def _on_request(self, request: VoteRequest, now_s: float) -> list[Effect]:
        candidate = request.candidate
        eligible = candidate in {seat.name for seat in self.epoch.eligible()}
        if self.amnesiac or not eligible or not rules.within_reach(request.term, self.ballot):
            return []
        if request.term <= self.ballot.fence:
            return [] if self.certificate is None else [Send(self.certificate, to=candidate)]
        if self.role is Role.LEADER or now_s < self._promise_until_s:
            return [] if self.certificate is None else [Send(self.certificate, to=candidate)]
        if self.certificate is not None and candidate == self.certificate.leader and now_s < self._promise_until_s + self._lead_of_others():
            return []
        voted_before = request.term == self.ballot.term and self.ballot.candidate == candidate
        if request.term <= self.ballot.term and not voted_before:
            return []
        effects: list[Effect] = []
        if not voted_before:
            self._give_up()
            self.ballot = Ballot(epoch=self.epoch.number, term=request.term, candidate=candidate, fence=self.ballot.fence)
            self._requested_s = now_s
            self._attempts = max(self._attempts, 1)
            effects.append(Persist(self.ballot))
        vote = rules.sign_vote(self._key, self.epoch, request.term, candidate, self.name)
        return [*effects, Send(vote, to=candidate)]

    def _lead_of_others(self) -> float:
        """How long the last leader's request is left unanswered, so that one who will not wait its turn gains nothing."""
        return 0.5 * self._timing.stagger_s * (len(self.epoch.eligible()) - 1)

    def _on_vote(self, vote: Vote, now_s: float) -> list[Effect]:
        counted = (
            self.role is Role.CANDIDATE
            and vote.term == self.ballot.term
            and vote.candidate == self.name
            and vote.voter not in self._votes
            and now_s < self._requested_s + self._timing.candidacy_s
        )
        if not counted or not rules.vote_is_valid(self.epoch, vote):
            return []
        self._votes[vote.voter] = vote
        return self._elected(now_s)

    def _elected(self, now_s: float) -> list[Effect]:
        if self.epoch.weight(frozenset(self._votes)) < self.epoch.quorum_weight:
            return []
        term = self.ballot.term
        previous = self.certificate
        held = previous.held + 1 if previous is not None and previous.leader == self.name else 1
        certificate = Certificate(
            epoch=self.epoch.number,
            term=term,
            leader=self.name,
            held=held,
            backups=rules.backups(self.epoch, term, self.name, held),
            votes=tuple((voter, self._votes[voter].signature) for voter in sorted(self._votes)),
        )
        self.role = Role.LEADER
        self.certificate = certificate
        self.ballot = Ballot(epoch=self.epoch.number, term=term, candidate=self.name, fence=term)
        self._attempts = 0
        self._elected_s = self._followed_s = now_s
        self._lease_until_s = float("-inf")
        self._sent_s, self._acks = {}, {}
        return [Persist(self.ballot), Send(certificate), Follow(certificate), *self._beat(now_s)]

    def _beat(self, now_s: float) -> list[Effect]:
        self._heartbeat_number += 1
        number = self._heartbeat_number
        self._heartbeat_due_s = now_s + self._timing.heartbeat_s
        renew = number % self._timing.renew_every == 0 or self._lease_until_s == float("-inf")
        if renew:
            self._sent_s[number] = now_s
            self._acks[number] = {self.name}
            for old in [key for key in self._sent_s if self._sent_s[key] < now_s - self._timing.lease_s]:
                del self._sent_s[old], self._acks[old]
        beat = Heartbeat(epoch=self.epoch.number, term=self.ballot.fence, leader=self.name, number=number, renew=renew)
        return [Send(beat), *(self._extend(number) if renew else [])]

    def _lead(self, now_s: float) -> list[Effect]:
        if now_s >= max(self._lease_until_s, self._elected_s + self._timing.lease_s):
            return self._step_down("no quorum has acknowledged within the lease", now_s)
        if now_s >= self._elected_s + self._timing.tenure_s and len(self.epoch.eligible()) > 1:
            resignation = Resignation(epoch=self.epoch.number, term=self.ballot.fence, leader=self.name)
            return [*self._step_down("tenure is over", now_s), Send(resignation)]
        return self._beat(now_s) if now_s >= self._heartbeat_due_s else []

    def _step_down(self, reason: str, now_s: float) -> list[Effect]:
        if self.role is not Role.LEADER:
            return []
        self.role = Role.FOLLOWER
        self._lease_until_s = float("-inf")
        self._promise_until_s = max(self._promise_until_s, now_s + self._timing.promise_s)
        return [StepDown(self.ballot.fence, reason)]

    def _on_heartbeat(self, beat: Heartbeat, now_s: float) -> list[Effect]:
        certificate = self.certificate
        if beat.term < self.ballot.fence:
            return [] if certificate is None else [Send(certificate, to=beat.leader)]
        if certificate is None or certificate.term != beat.term:
            return [Send(CertificateQuery(epoch=self.epoch.number, term=beat.term, member=self.name), to=beat.leader)]
        if certificate.leader != beat.leader or self.role is Role.LEADER:
            return []
        if not rules.may_still_lead(self.epoch, self._timing, self._followed_s, now_s):
            return []
        self._give_up()
        self._attempts = 0
        self._promise_until_s = max(self._promise_until_s, now_s + self._timing.promise_s)
        if not beat.renew or self.amnesiac:
            return []
        ack = HeartbeatAck(epoch=self.epoch.number, term=beat.term, member=self.name, number=beat.number)
        return [Send(ack, to=beat.leader)]

    def _on_ack(self, ack: HeartbeatAck, now_s: float) -> list[Effect]:
        if self.role is Role.LEADER and ack.term == self.ballot.fence and ack.number in self._acks:
            self._acks[ack.number].add(ack.member)
            return self._extend(ack.number)
        return []

    def _extend(self, number: int) -> list[Effect]:
        if self.epoch.weight(frozenset(self._acks[number])) >= self.epoch.quorum_weight:
            self._lease_until_s = max(self._lease_until_s, self._sent_s[number] + self._timing.lease_s)
        return []

    def _on_certificate(self, certificate: Certificate, now_s: float) -> list[Effect]:
        if certificate.term <= self.ballot.fence and not (certificate.term == self.ballot.fence and self.certificate is None):
            return self._exposed(certificate)
        try:
            rules.check_certificate(self.epoch, certificate)
        except rules.CertificateRefused:
            return []
        effects = self._step_down(f"term {certificate.term} has another leader", now_s)
        self._give_up()
        self._attempts = 0
        self.certificate = certificate
        self._followed_s = now_s
        self._promise_until_s = max(self._promise_until_s, now_s + self._timing.promise_s)
        if certificate.term > self.ballot.fence:
            ballot = self.ballot
            self.ballot = Ballot(epoch=ballot.epoch, term=ballot.term, candidate=ballot.candidate, fence=certificate.term)
            if not self.amnesiac:
                effects.append(Persist(self.ballot))
        return [*effects, Follow(certificate)]

    def _exposed(self, certificate: Certificate) -> list[Effect]:
        """Two leaders of one term cannot be without members that voted twice: their own signatures say who."""
        known = self.certificate
        voters = () if known is None else rules.double_voters(self.epoch, known, certificate)
        return [] if known is None or not voters else [Expose(voters, known, certificate)]

    def _release(self, leader: str, term: int, now_s: float) -> list[Effect]:
        certificate = self.certificate
        if certificate is not None and certificate.leader == leader and certificate.term == term and leader != self.name:
            self._promise_until_s = min(self._promise_until_s, now_s)
            self._attempts = 0
        return []

    def _answer(self, query: CertificateQuery) -> list[Effect]:
        return [] if self.certificate is None else [Send(self.certificate, to=query.member)]

    def _remember(self, now_s: float) -> list[Effect]:
        if now_s < self._remember_after_s or now_s < self._asked_s + self._timing.candidacy_s:
            return []
        self._asked_s = now_s
        return [Send(TermQuery(epoch=self.epoch.number, term=0, member=self.name, nonce=self._nonce))]

    def _report(self, query: TermQuery) -> Effect:
        highest = max(self.ballot.term, self.ballot.fence)
        return Send(TermReport(epoch=self.epoch.number, term=highest, member=self.name, nonce=query.nonce), to=query.member)

    def _on_report(self, report: TermReport, now_s: float) -> list[Effect]:
        if not self.amnesiac or report.nonce != self._nonce or report.member == self.name:
            return []
        self._reports[report.member] = report.term
        if self.epoch.weight(frozenset(self._reports)) < self.epoch.quorum_weight:
            return []
        term = max(rules.reported_term(self._reports.values()), self.ballot.fence)
        self.ballot = Ballot(epoch=self.epoch.number, term=term, candidate=None, fence=self.ballot.fence)
        self.amnesiac = False
        return [Persist(self.ballot)]
