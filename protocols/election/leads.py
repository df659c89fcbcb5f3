"""Who leads each community of a region, proven: what the region's coordinator and every leader collect alike from what communities say.

A community's epoch is signed by its own coordinator, a certificate carries the votes of its members; both are retained, so whoever
subscribes has them. Nothing here is believed from a third party: an epoch needs the community's own key, a certificate its epoch.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from protocols.bus import BusMessage
from protocols.election.region import CommunityLead
from protocols.election.rules import CertificateRefused, check_certificate, public_key_of
from protocols.election.values import Certificate, Epoch
from protocols.errors import Refusal
from protocols.messages import ElectionNotice, EpochNotice
from protocols.signing import Verifier
from protocols.topics import coordinator_topic, election_topic, matches

KEPT: Final = 8
"""Epochs and leads of each community that are remembered: a regional epoch may be checked a little after a community went on."""

COORDINATOR: Final = "coordinator"


class LeadBook:
    """See the module. `communities` are their names with the keys of their coordinators."""

    def __init__(self, communities: Mapping[str, Sequence[Ed25519PublicKey]]) -> None:
        self._verifiers = {name: Verifier(name, {COORDINATOR: keys}) for name, keys in communities.items()}
        self._epochs: dict[str, OrderedDict[int, Epoch]] = {name: OrderedDict() for name in communities}
        self._leads: dict[str, OrderedDict[tuple[int, int], CommunityLead]] = {name: OrderedDict() for name in communities}
        self._early: dict[str, list[Certificate]] = {name: [] for name in communities}

    @property
    def communities(self) -> tuple[str, ...]:
        """Names of all communities."""
        return tuple(self._verifiers)

    def filters(self) -> list[str]:
        """What has to be subscribed to."""
        found = []
        for name in self._verifiers:
            found += [coordinator_topic(name, "epoch"), election_topic(name, "+", "certificate")]
        return found

    def take(self, message: BusMessage, now_s: float) -> bool:
        """Take one message, whatever it is; returns whether it belongs to a community of this region."""
        name = message.topic.split("/")[2] if message.topic.count("/") >= 3 else ""
        if name not in self._verifiers or not any(matches(topic_filter, message.topic) for topic_filter in self.filters()):
            return False
        try:
            content = self._verifiers[name].open(message, now_s)
        except Refusal:
            return True
        if isinstance(content, EpochNotice) and content.sender == COORDINATOR:
            self._enter(name, content.epoch)
        elif isinstance(content, ElectionNotice) and isinstance(content.body, Certificate):
            self._certified(name, content.body)
        return True

    def newest(self, community: str) -> CommunityLead | None:
        """The lead of the newest term that was proven."""
        leads = self._leads[community]
        return leads[max(leads, key=lambda key: (key[1], key[0]))] if leads else None

    def lead(self, community: str, epoch: int, term: int) -> CommunityLead | None:
        """A lead by the numbers that a regional epoch names, None where it was not proven here."""
        return self._leads.get(community, OrderedDict()).get((epoch, term))

    def _enter(self, name: str, epoch: Epoch) -> None:
        known = self._epochs[name]
        if known and epoch.number <= max(known):
            return
        known[epoch.number] = epoch
        while len(known) > KEPT:
            known.popitem(last=False)
        for seat in epoch.seats:
            if seat.name != COORDINATOR:
                self._verifiers[name].trust(seat.name, (public_key_of(seat),))
        early, self._early[name] = self._early[name], []
        for certificate in early:
            self._certified(name, certificate)

    def _certified(self, name: str, certificate: Certificate) -> None:
        epoch = self._epochs[name].get(certificate.epoch)
        if epoch is None:
            self._early[name] = [*self._early[name][-KEPT:], certificate]
            return
        try:
            check_certificate(epoch, certificate)
        except CertificateRefused:
            return
        leads = self._leads[name]
        leads[certificate.epoch, certificate.term] = CommunityLead(epoch, certificate)
        while len(leads) > KEPT:
            leads.popitem(last=False)
