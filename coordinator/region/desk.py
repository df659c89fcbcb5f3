"""When a region enters a new epoch, and which. Pure.

All that is decided here is a number and the moment: the seats of a regional epoch follow from the certificates of its communities, which
every leader checks itself (`protocols.election.region`). A number is used once, over restarts and lost disks too: it is the time in
seconds, or one more than the last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from protocols.bus import BusMessage
from protocols.election.leads import LeadBook
from protocols.election.region import CommunityLead, regional_epoch
from protocols.election.values import Epoch
from protocols.messages import LeadName

Named = dict[str, tuple[int, int]]


class RegionDesk:
    """See the module. `last` is the highest number that was ever used."""

    def __init__(
        self,
        communities: Mapping[str, Sequence[Ed25519PublicKey]],
        *,
        reputation_min: float,
        founding_s: float,
        settle_s: float,
        last: int = 0,
    ) -> None:
        self.leads = LeadBook(communities)
        self.last = last
        self.epoch: Epoch | None = None
        self.names: tuple[LeadName, ...] = ()
        self._reputation_min = reputation_min
        self._founding_s = founding_s
        self._settle_s = settle_s
        self._first_s: float | None = None
        self._seen: Named = {}
        self._seen_s = 0.0
        self._entered: Named = {}

    def take(self, message: BusMessage, now_s: float) -> None:
        """One message of a community."""
        self.leads.take(message, now_s)

    def step(self, now_s: float) -> bool:
        """Enter a new epoch where it is time; returns whether that happened, and `last` has to be written down before it is said."""
        leads = {name: lead for name in self.leads.communities if (lead := self.leads.newest(name)) is not None}
        named = {name: (lead.certificate.epoch, lead.certificate.term) for name, lead in leads.items()}
        if named != self._seen:
            self._seen, self._seen_s = named, now_s
        if leads and self._first_s is None:
            self._first_s = now_s
        if named == self._entered or now_s - self._seen_s < self._settle_s or not self._enough(leads, now_s):
            return False
        self.last = max(self.last + 1, int(now_s))
        self.epoch = regional_epoch(self.last, leads, reputation_min=self._reputation_min)
        self.names = tuple(LeadName(community=name, epoch=epoch, term=term) for name, (epoch, term) in sorted(named.items()))
        self._entered = named
        return True

    def _enough(self, leads: Mapping[str, CommunityLead], now_s: float) -> bool:
        """A region is founded by all, or by who is there in time; later nobody who was there is left out."""
        if self.epoch is not None or len(leads) == len(self.leads.communities):
            return True
        return self._first_s is not None and now_s - self._first_s >= self._founding_s and len(leads) >= 2
