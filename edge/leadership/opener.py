"""Opens this household's sampled reports to the settlement, and no others (`protocols.aggregation.settlement`). A shell."""

from __future__ import annotations

import logging

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from edge.errors import StoreError
from edge.leadership.evidence import EvidenceLog
from edge.leadership.member_shell import SendSealed
from edge.leadership.records import MemberRecords
from protocols.aggregation.group import RoundRefused
from protocols.aggregation.messages import SealRefused, label, labelled, seal, unseal
from protocols.aggregation.settlement import Demand, check_demand, disclose, nothing_to_disclose

log = logging.getLogger(__name__)


class Opener:
    """See the module. `share_max` is the largest share of its reports that this household opens."""

    def __init__(
        self,
        name: str,
        key: Ed25519PrivateKey,
        envelope_key: X25519PrivateKey,
        operator_keys: tuple[Ed25519PublicKey, ...],
        *,
        operator: str,
        records: MemberRecords,
        evidence: EvidenceLog,
        send: SendSealed,
        share_max: float,
    ) -> None:
        self.name = name
        self.opened = 0
        self.refusals: list[str] = []
        self._key = key
        self._envelope_key = envelope_key
        self._operator_keys = operator_keys
        self._operator = operator
        self._records = records
        self._evidence = evidence
        self._send = send
        self._share_max = share_max

    def demand(self, payload: bytes) -> None:
        """Answer a demand of the operator, or refuse it by name; the same one again gets the same content."""
        try:
            round_name, sealed = label(payload)
            demand = unseal(sealed, Demand, round_name, self._envelope_key)
            self._answer(demand)
        except (RoundRefused, SealRefused, StoreError) as refusal:
            log.warning("no opening: %s", refusal)
            self.refusals.append(str(refusal))
            del self.refusals[:-20]

    def _answer(self, demand: Demand) -> None:
        kept = self._records.kept(demand.round_name)
        if kept is not None and kept.sampling is None:
            raise RoundRefused(f"round {demand.round_name}: its epoch announced no settlement")
        sampling, opening = (None, None) if kept is None else (kept.sampling, kept.opening)
        check_demand(demand, self.name, sampling, opening, self._operator_keys, share_max=self._share_max)
        if opening is None:
            answer = nothing_to_disclose(demand.round_name, self.name, self._key)
        else:
            receipt = self._evidence.receipt(demand.round_name)
            answer = disclose(opening, b"" if receipt is None else receipt.signature, self._key)
            self.opened += 1
        try:
            sealed = seal(answer, demand.reply_key)
        except ValueError as error:
            raise RoundRefused(f"demand for round {demand.round_name}: its reply key is none") from error
        self._send("opening", self._operator, labelled(demand.round_name, sealed))
