"""A community's leader in the election of the region. A shell: it runs the same node, for as long as it leads at home.

`speaks` is asked before anything leaves and before every regional act: outside its lease at home a leader says nothing for its community.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.leadership.ballots import BallotStore
from protocols.election.effects import Effect, Persist, Send
from protocols.election.node import Node
from protocols.election.region import CommunityLead, check_regional_epoch, regional_ballot
from protocols.election.values import Ballot, Certificate, ElectionMessage, Epoch, Timing

SendTo = Callable[[ElectionMessage, str | None], None]


class RegionalSeat:
    """One household's claim to its community's seat. All times are monotonic; `founding` communities have never voted in the region."""

    def __init__(
        self,
        community: str,
        household: str,
        key: Ed25519PrivateKey,
        *,
        ballots: BallotStore,
        timing: Timing,
        send: SendTo,
        nonce: Callable[[], str],
        speaks: Callable[[float], bool],
    ) -> None:
        self.community = community
        self.household = household
        self._key = key
        self._ballots = ballots
        self._timing = timing
        self._send = send
        self._nonce = nonce
        self._speaks = speaks
        self._node: Node | None = None
        self._public = key.public_key().public_bytes_raw().hex()

    @property
    def certificate(self) -> Certificate | None:
        """What proves the region's leader."""
        return None if self._node is None else self._node.certificate

    @property
    def epoch(self) -> Epoch | None:
        """The regional epoch in which this household has the seat."""
        return None if self._node is None else self._node.epoch

    def leads(self, now_s: float) -> bool:
        """Whether this household may act for the whole region now: it needs both leases."""
        return self._node is not None and self._speaks(now_s) and self._node.may_act(now_s)

    def accepts(self, sender: str, term: int) -> bool:
        """Whether what `sender` commands in the region may be obeyed."""
        return self._node is not None and self._node.accepts(sender, term)

    def adopt(self, epoch: Epoch, leads: Mapping[str, CommunityLead], now_s: float, *, founding: bool = False) -> None:
        """Enter a regional epoch, after checking it against the communities' certificates (raises `CertificateRefused`).

        Without the seat in it, this household takes no part; with it, it remembers only what it voted for the seat itself.
        """
        if self._node is not None and epoch.number <= self._node.epoch.number:
            return
        check_regional_epoch(epoch, leads)
        seat = next((seat for seat in epoch.seats if seat.name == self.community), None)
        before, self._node = self._node, None
        if seat is None or seat.public_key != self._public:
            return
        ballot = regional_ballot(self._ballots.load(), before is not None, epoch)
        if founding and before is None:
            ballot = Ballot(epoch=epoch.number, term=0, candidate=None, fence=0)
        self._node = Node(self.community, epoch, self._key, ballot=ballot, timing=self._timing, now_s=now_s, nonce=self._nonce())

    def receive(self, sender: str, message: ElectionMessage, now_s: float) -> None:
        """Take one message that was authenticated as the community's."""
        if self._node is not None and self._speaks(now_s):
            self._carry_out(self._node.receive(sender, message, now_s))

    def tick(self, now_s: float) -> None:
        """Do what is due; a leader that may not act at home any more gives the region up as well."""
        if self._node is None:
            return
        if self._speaks(now_s):
            self._carry_out(self._node.tick(now_s))
        else:
            self._carry_out(self._node.disconnected(now_s))

    def _carry_out(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Persist(ballot):
                    self._ballots.save(ballot)
                case Send(message, to):
                    self._send(message, to)
                case _:
                    pass
