"""What was proven against whom, as the operator records it and verifies it again. Pure.

A member is convicted of a breach in one round, once, on one of four grounds:

- `verdicts`: a quorum of the registered members has verified a proof (`protocols.aggregation.charges`). The operator does not see it;
- `aggregates`: it has signed two different aggregates of one round;
- `declaration`: its declarations of how it kept to its reports are disproved by the operator's own meter (`settling`). The meter is the
  operator's, so this convinces nobody else; what is verified again is that the member has declared it;
- `beacon`: its aggregate is of another beacon than the round's call implies, so it was handed in as something else than was asked for.

The epoch stands in the record with the keys of its seats, so that a record can be verified for ever; `unsound` does that.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Final, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Struct

from protocols.aggregation.audit import contradiction
from protocols.aggregation.calls import beacon
from protocols.aggregation.charges import convicts
from protocols.aggregation.evidence import Notice, evidence_digest
from protocols.aggregation.member import round_order
from protocols.election.rules import public_key_of
from protocols.election.values import Epoch
from protocols.errors import Refusal
from protocols.messages import AdherenceReport, AggregateNotice, RoundNotice, Verdict
from protocols.signing import Verifier

CASES_OF_ONE_JUROR: Final = 32
ROUNDS_COMPARED: Final = 16
"""Of each member: nobody pushes out what another one has handed in."""
CONVICTIONS_OF_ONE: Final = 16
"""Of one member in a day: who signs lies as fast as it can must not fill the store with them."""
DAY_S: Final = 86400.0
OTHER_BEACON: Final = "its beacon is not that of its call"


class Conviction(Struct, frozen=True, kw_only=True):
    """One breach: `notices` are the signed messages that prove it, `evidence` names what they rest on."""

    accused: str
    round_name: str
    words: str
    ground: Literal["verdicts", "aggregates", "beacon", "declaration"]
    evidence: str
    time_s: float
    epoch: Epoch
    notices: tuple[Notice, ...]

    @property
    def term(self) -> int:
        """The term of the round."""
        return round_order(self.round_name)[0]


class Court:
    """Counts verdicts and compares aggregates. `convicted` are (accused, round) of earlier runs."""

    def __init__(self) -> None:
        self.convicted: set[tuple[str, str]] = set()
        self._cases: dict[tuple[str, str], dict[str, tuple[Verdict, Notice]]] = {}
        self._aggregates: dict[str, OrderedDict[str, tuple[AggregateNotice, Notice]]] = {}
        self._recent: dict[str, deque[float]] = {}

    def verdict(self, epoch: Epoch | None, verdict: Verdict, notice: Notice) -> Conviction | None:
        """A member has verified a proof; the conviction where a quorum has."""
        case = verdict.accused, verdict.round_name
        if epoch is None or verdict.accused not in epoch.names or case in self.convicted:
            return None
        jurors = self._cases.get(case, {})
        if verdict.sender not in jurors:
            self._make_room(verdict.sender)
        jurors[verdict.sender] = verdict, notice
        self._cases[case] = jurors
        seated = {name: said for name, said in jurors.items() if name in epoch.names and name != verdict.accused}
        if not convicts(epoch, verdict.accused, seated):
            return None
        del self._cases[case]
        return self._convict(
            Conviction(
                accused=verdict.accused,
                round_name=verdict.round_name,
                words=verdict.words,
                ground="verdicts",
                evidence=verdict.evidence,
                time_s=notice.heard_s,
                epoch=epoch,
                notices=tuple(said for _, (_, said) in sorted(seated.items())),
            )
        )

    def aggregate(self, epoch: Epoch | None, said: AggregateNotice, notice: Notice) -> Conviction | None:
        """A member hands an aggregate in; the conviction where it has handed in another one of the same round."""
        case = said.aggregate.leader, said.aggregate.round_name
        if epoch is None or case[0] not in epoch.names or case in self.convicted:
            return None
        handed_in = self._aggregates.setdefault(case[0], OrderedDict())
        earlier, first = handed_in.setdefault(case[1], (said, notice))
        while len(handed_in) > ROUNDS_COMPARED:
            handed_in.popitem(last=False)
        words = contradiction(earlier.aggregate, said.aggregate)
        if words is None:
            return None
        return self._convict(_of_statements(epoch, case, words, "aggregates", (first, notice)))

    def beacon(self, epoch: Epoch, accused: str, round_name: str, notice: Notice) -> Conviction | None:
        """The desk has found another beacon than that of the round's call."""
        if (accused, round_name) in self.convicted:
            return None
        return self._convict(_of_statements(epoch, (accused, round_name), OTHER_BEACON, "beacon", (notice,)))

    def _make_room(self, juror: str) -> None:
        """A juror's oldest verdict that no quorum has shared makes room for its newest."""
        held = [case for case, jurors in self._cases.items() if juror in jurors]
        for case in held[: max(0, len(held) - CASES_OF_ONE_JUROR + 1)]:
            del self._cases[case][juror]
            if not self._cases[case]:
                del self._cases[case]

    def _convict(self, conviction: Conviction) -> Conviction | None:
        recent = self._recent.setdefault(conviction.accused, deque(maxlen=CONVICTIONS_OF_ONE))
        if len(recent) == CONVICTIONS_OF_ONE and conviction.time_s - recent[0] < DAY_S:
            return None
        recent.append(conviction.time_s)
        self.convicted.add((conviction.accused, conviction.round_name))
        return conviction


def unsound(conviction: Conviction, community: str) -> str | None:
    """Why a record proves nothing, or None where every signature was verified again and it does."""
    keys: dict[str, list[Ed25519PublicKey]] = {seat.name: [public_key_of(seat)] for seat in conviction.epoch.seats}
    verifier = Verifier(community, keys)
    try:
        contents = [verifier.read(notice.message) for notice in conviction.notices]
    except Refusal as refusal:
        return str(refusal)
    accused, round_name = conviction.accused, conviction.round_name
    match conviction.ground:
        case "verdicts":
            jurors = {
                said.sender
                for said in contents
                if isinstance(said, Verdict) and (said.accused, said.round_name) == (accused, round_name)
            }
            named = [said.evidence for said in contents if isinstance(said, Verdict)]
            if conviction.evidence not in named:
                return "no verdict names this evidence"
            return None if convicts(conviction.epoch, accused, jurors) else f"{len(jurors)} verdicts are no quorum"
        case "declaration":
            reports = [said for said in contents if isinstance(said, AdherenceReport) and said.sender == accused]
            if len(reports) != len(contents) or conviction.evidence != evidence_digest(conviction.notices) or not reports:
                return "the accused has not declared this"
            return None
        case "aggregates" | "beacon":
            said = [content.body for content in contents if isinstance(content, RoundNotice)]
            handed_in = [body for body in said if isinstance(body, AggregateNotice) and body.aggregate.leader == accused]
            senders = {content.sender for content in contents}
            if senders != {accused} or any(body.aggregate.round_name != round_name for body in handed_in):
                return "the statements are not of the accused in this round"
            if conviction.evidence != evidence_digest(conviction.notices):
                return "the statements are not the evidence that is named"
            if conviction.ground == "beacon":
                return None if len(handed_in) == 1 and _is_of_another(conviction.epoch, handed_in[0]) else "the beacon is that of the call"
            two = len(handed_in) == 2 and contradiction(handed_in[0].aggregate, handed_in[1].aggregate) is not None
            return None if two else "the aggregates do not contradict each other"


def of_declarations(
    epoch: Epoch, accused: str, words: str, notices: Sequence[Notice], *, settled_s: float
) -> Conviction:
    """Its declarations are disproved. The round is named after the second in which that was found, for it belongs to no term."""
    return Conviction(
        accused=accused,
        round_name=f"0:{int(settled_s)}",
        words=words,
        ground="declaration",
        evidence=evidence_digest(notices),
        time_s=settled_s,
        epoch=epoch,
        notices=tuple(notices),
    )


def _is_of_another(epoch: Epoch, said: AggregateNotice) -> bool:
    return said.aggregate.beacon != beacon(epoch, said)


def _of_statements(
    epoch: Epoch,
    case: tuple[str, str],
    words: str,
    ground: Literal["aggregates", "beacon"],
    notices: tuple[Notice, ...],
) -> Conviction:
    return Conviction(
        accused=case[0],
        round_name=case[1],
        words=words,
        ground=ground,
        evidence=evidence_digest(notices),
        time_s=notices[-1].heard_s,
        epoch=epoch,
        notices=notices,
    )
