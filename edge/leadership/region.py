"""A community's leader in the election of the region. A shell: it runs the same node, for as long as it leads at home.

`speaks` is asked before anything leaves and before every regional act: outside its lease at home a leader says nothing for its community.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.errors import StoreError
from edge.leadership.ballots import BallotStore
from protocols.election.effects import Effect, Follow, Persist, Send
from protocols.election.node import Node
from protocols.election.region import CommunityLead, check_regional_epoch, regional_ballot
from protocols.election.values import Certificate, ElectionMessage, Epoch, Timing

log = logging.getLogger(__name__)

SendTo = Callable[[ElectionMessage, str | None], None]


class RegionalSeat:
    """One household's claim to its community's seat. All times are monotonic."""

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
        self.entered = -1
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

    def adopt(self, epoch: Epoch, leads: Mapping[str, CommunityLead], now_s: float) -> None:
        """Enter a regional epoch, after checking it against the communities' certificates (raises `CertificateRefused`).

        Without the seat in it, this household takes no part. One that is not newer than the last, in memory or in its ballot, changes
        nothing.
        """
        if epoch.number <= self.entered:
            return
        check_regional_epoch(epoch, leads)
        self.entered, self._node = epoch.number, None
        seat = next((seat for seat in epoch.seats if seat.name == self.community), None)
        if seat is None or seat.public_key != self._public:
            return
        ballot = regional_ballot(self._ballots.load(), epoch)
        if ballot is None:
            log.error("%s", self._ballots.finding)
        elif ballot.epoch > epoch.number:
            log.warning("regional epoch %d is older than epoch %d, in which this household voted", epoch.number, ballot.epoch)
            return
        self._node = Node(self.community, epoch, self._key, ballot=ballot, timing=self._timing, now_s=now_s, nonce=self._nonce())

    def receive(self, sender: str, message: ElectionMessage, now_s: float) -> None:
        """Take one message that was authenticated as the community's."""
        if self._node is not None and self._speaks(now_s):
            self._carry_out(self._node.receive(sender, message, now_s))

    def gone(self, community: str, now_s: float) -> None:
        """The broker has cut this community's leader off."""
        if self._node is not None and community != self.community:
            self._carry_out(self._node.will(community, now_s))

    def disconnected(self, now_s: float) -> None:
        """This household's own connection to the region is gone."""
        if self._node is not None:
            self._carry_out(self._node.disconnected(now_s))

    def tick(self, now_s: float) -> None:
        """Do what is due; a leader that may not act at home any more gives the region up as well."""
        if self._node is None:
            return
        if self._speaks(now_s):
            self._carry_out(self._node.tick(now_s))
        else:
            self._carry_out(self._node.disconnected(now_s))

    def _carry_out(self, effects: Sequence[Effect]) -> None:
        """What follows a ballot that cannot be brought to the disk is not said."""
        for effect in effects:
            match effect:
                case Persist(ballot):
                    try:
                        self._ballots.save(ballot)
                    except StoreError as error:
                        log.error("%s; this seat is silent", error)
                        self._node = None
                        return
                case Send(message, to):
                    self._send(message, to)
                case Follow(certificate):
                    log.info("regional term %d: %s leads", certificate.term, certificate.leader)
                case _:
                    pass
