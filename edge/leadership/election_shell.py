"""Runs the election's `Node`: carries its effects out in their order, and lets nothing leave before the ballot is on the disk. A shell.

A ballot that cannot be written silences the member: no vote, no request and no certificate leaves it until the disk has the ballot that
its memory has. What it hears is still heard, so it goes on following.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.errors import StoreError
from edge.leadership.ballots import BallotStore
from protocols.clock import SystemClock
from protocols.election.effects import Effect, Expose, Follow, Persist, Send, StepDown
from protocols.election.node import Node
from protocols.election.rules import carried
from protocols.election.values import Ballot, Certificate, ElectionMessage, Epoch, Heartbeat, HeartbeatAck, Timing

log = logging.getLogger(__name__)

SendTo = Callable[[ElectionMessage, str | None], None]


class BootClock(SystemClock):
    """The machine's clock; its monotonic time runs on while the machine sleeps, as leases demand (CLOCK_BOOTTIME, where it is there)."""

    def monotonic_s(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class ElectionShell:
    """One member's place in the election of one epoch after another. All times are monotonic. `send` queues a message, `nonce` gives fresh
    randomness; `expose` keeps two certificates of one term, which prove that their common voters voted twice."""

    def __init__(
        self,
        name: str,
        key: Ed25519PrivateKey,
        *,
        ballots: BallotStore,
        timing: Timing,
        send: SendTo,
        nonce: Callable[[], str],
        expose: Callable[[Certificate, Certificate], None] = lambda first, second: None,
    ) -> None:
        self.name = name
        self.heard_s: dict[str, float] = {}
        self.trouble: str | None = None
        self._key = key
        self._ballots = ballots
        self._timing = timing
        self._send = send
        self._nonce = nonce
        self._expose = expose
        self._saved: Ballot | None = None
        self._node: Node | None = None

    @property
    def epoch(self) -> Epoch | None:
        """The epoch this member takes part in."""
        return None if self._node is None else self._node.epoch

    @property
    def certificate(self) -> Certificate | None:
        """What proves the leader that is followed."""
        return None if self._node is None else self._node.certificate

    @property
    def term(self) -> int:
        """The fencing token: nothing under a lower term is obeyed."""
        return 0 if self._node is None else self._node.term

    @property
    def amnesiac(self) -> bool:
        """Whether this member abstains because it has lost its memory."""
        return self._node is not None and self._node.amnesiac

    def leads(self, now_s: float) -> bool:
        """Whether this member is the leader and may act as one now."""
        return self._node is not None and self._node.may_act(now_s)

    def accepts(self, sender: str, term: int) -> bool:
        """Whether what `sender` commands under `term` may be obeyed."""
        return self._node is not None and self._node.accepts(sender, term)

    def present(self, now_s: float) -> frozenset[str]:
        """Members from whom something was heard within two leases, this one included."""
        since_s = now_s - 2.0 * self._timing.promise_s
        return frozenset(name for name, heard_s in self.heard_s.items() if heard_s >= since_s) | {self.name}

    def adopt(self, epoch: Epoch, now_s: float) -> None:
        """Take part in this epoch, with what the disk remembers. An epoch that is not newer changes nothing."""
        if self._node is not None and epoch.number <= self._node.epoch.number:
            return
        if self.name not in epoch.names:
            self._node = None
            return
        ballot = self._ballots.load()
        if ballot is None:
            log.error("%s", self._ballots.finding)
        elif ballot.epoch > epoch.number:
            log.warning("epoch %d is older than epoch %d, in which this member voted", epoch.number, ballot.epoch)
            return
        else:
            self._saved = ballot
            ballot = carried(ballot, epoch)
        self._node = Node(self.name, epoch, self._key, ballot=ballot, timing=self._timing, now_s=now_s, nonce=self._nonce())

    def receive(self, sender: str, message: ElectionMessage, now_s: float) -> None:
        """Take one authenticated message."""
        if self._node is None:
            return
        if isinstance(message, (Heartbeat, HeartbeatAck)):
            self.heard_s[sender] = now_s
        self._carry_out(self._node.receive(sender, message, now_s))

    def gone(self, name: str, now_s: float) -> None:
        """The broker has cut this member off."""
        self.heard_s.pop(name, None)
        if self._node is not None and name != self.name:
            self._carry_out(self._node.will(name, now_s))

    def disconnected(self, now_s: float) -> None:
        """This member's own connection is gone."""
        if self._node is not None:
            self._carry_out(self._node.disconnected(now_s))

    def tick(self, now_s: float) -> None:
        """Do what is due."""
        if self._node is not None:
            self._carry_out(self._node.tick(now_s))

    def _carry_out(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Persist():
                    self._persist()
                case Send(message, to):
                    if self._persist():
                        self._send(message, to)
                case Follow(certificate):
                    log.info("term %d: %s leads", certificate.term, certificate.leader)
                case StepDown(term, reason):
                    log.info("gave up term %d: %s", term, reason)
                case Expose(voters, first, second):
                    log.error("term %d has two leaders: %s voted twice", first.term, ", ".join(voters))
                    self._expose(first, second)

    def _persist(self) -> bool:
        """Whether the disk has the ballot that the memory has."""
        assert self._node is not None
        ballot = self._node.ballot
        if ballot == self._saved or self._node.amnesiac:
            return True
        try:
            self._ballots.save(ballot)
        except StoreError as error:
            if self.trouble is None:
                log.error("%s; this member is silent until it can be", error)
            self.trouble = str(error)
            return False
        self.trouble = None
        self._saved = ballot
        return True
