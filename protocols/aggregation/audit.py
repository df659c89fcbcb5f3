"""What holds a leader to its word afterwards: sampled rounds are computed again, and two statements that contradict each other are proof.

Rules, each with its own finding:

1. An aggregate must be the product of the signed reports that its root commits to, once each, corrected by revealed seeds alone. An
   auditor computes it again, bit for bit, from the leader's transcript.
2. One round, one announcement, one aggregate, one that is opened; a later drop list contains the earlier ones.
3. Who holds a receipt of a step is not missing in a drop list of that step or an earlier one.

A leader that keeps receipts back is seen by those it wrongs, yet not proved wrong; they ask for its resignation.
"""

from __future__ import annotations

from msgspec import Struct

from protocols.aggregation.group import Group, RoundRefused
from protocols.aggregation.leader import orphaned_pads
from protocols.aggregation.messages import (
    Acknowledgement,
    Aggregate,
    Announce,
    AuditAnswer,
    Drops,
    Receipt,
    SealRefused,
    Transcript,
    aggregate_digest,
    merkle_root,
    verify_report,
    verify_reveal,
)
from protocols.aggregation.pads import PadGraph
from protocols.aggregation.paillier import CiphertextRefused, Encryptor, check_ciphertexts, from_bytes, multiply, to_bytes
from protocols.messages import RoundCall

BROKEN = "the transcript is not whole"


class Heard(Struct, frozen=True, kw_only=True):
    """What an auditor knows of a round by itself: its call, the last drop list, the digest that the operator accepted, its own receipt."""

    announce: Announce
    left_out: frozenset[str]
    acknowledged: str
    receipt: Receipt | None


Statement = Announce | RoundCall | Receipt | Drops | Aggregate | Acknowledgement


def audit(group: Group, encryptor: Encryptor, transcript: Transcript, aggregate: Aggregate) -> str | None:
    """What is wrong with an aggregate, given the transcript that its leader handed over; None where it is an honest sum."""
    announce = transcript.announce
    named = (announce.round_name, announce.leader, announce.key_id, announce.beacon)
    if named != (aggregate.round_name, aggregate.leader, aggregate.key_id, aggregate.beacon):
        return "the aggregate belongs to another announcement"
    members = [report.member for report in transcript.reports]
    if sorted((*members, *transcript.left_out)) != sorted(announce.roster):
        return "reports and those left out are not the roster"
    if not group.members_min <= len(members) == aggregate.count:
        return f"{len(members)} reports: the aggregate says {aggregate.count}, the smallest group is {group.members_min}"
    try:
        digests = [verify_report(report, group.card(report.member).signing_key) for report in transcript.reports]
        for reveal in transcript.reveals:
            verify_reveal(reveal, group.card(reveal.member).signing_key)
        if any(len(report.ciphertexts) != group.ciphertexts for report in transcript.reports):
            return f"a report has not {group.ciphertexts} ciphertexts"
        ciphertexts = _product(group, encryptor, transcript)
    except (SealRefused, RoundRefused, CiphertextRefused, KeyError, ValueError) as error:
        return f"{BROKEN}: {error}"
    rounds = {report.round_name for report in transcript.reports} | {reveal.round_name for reveal in transcript.reveals}
    if rounds != {announce.round_name}:
        return "a report or a reveal belongs to another round"
    if merkle_root(digests) != aggregate.root:
        return "the root does not commit to these reports"
    if ciphertexts != aggregate.ciphertexts:
        return "the aggregate is not the product of the reports and the revealed pads"
    return None


def judge(group: Group, encryptor: Encryptor, heard: Heard, answer: AuditAnswer) -> str | None:
    """What is wrong with a leader's answer, for a member that knows what was `heard` in that round; None where the sum is honest.

    Beyond `audit`, the aggregate must be the one that the operator has answered, the announcement the one that was called, those who were
    left out must be at least those that the drop lists named, and the member's own report must be in, unless it was left out. Raises
    `SealRefused` for an answer that says nothing.
    """
    aggregate, transcript = answer.shown
    if answer.leader != heard.announce.leader:
        return f"the answer is by {answer.leader!r}: {heard.announce.leader!r} led the round"
    if aggregate_digest(aggregate) != heard.acknowledged:
        return "the operator has answered another aggregate"
    if transcript.announce != heard.announce:
        return "another announcement than the one that was called"
    if not heard.left_out <= set(transcript.left_out):
        return "somebody is summed whom a drop list left out"
    if heard.receipt is not None:
        own = [report for report in transcript.reports if report.member == heard.receipt.member]
        if not own and heard.receipt.member not in heard.left_out:
            return f"the report of {heard.receipt.member!r} was taken and is not summed"
    return audit(group, encryptor, transcript, aggregate)


def contradiction(first: Statement, second: Statement) -> str | None:
    """Why one leader (or the operator) cannot honestly have said both, or None. The caller has verified that the same one signed both."""
    match first, second:
        case (Announce(), Announce()) | (RoundCall(), RoundCall()) if first.round_name == second.round_name and first != second:
            return f"two announcements of round {first.round_name}"
        case (Acknowledgement(accepted=True), Acknowledgement(accepted=True)) if first.round_name == second.round_name:
            if first.digest != second.digest:
                return f"two aggregates of round {first.round_name} were opened"
        case (Aggregate(), Aggregate()) if first.round_name == second.round_name and first != second:
            return f"two aggregates of round {first.round_name}"
        case (Drops(), Drops()) if first.round_name == second.round_name:
            early, late = sorted((first, second), key=lambda drops: drops.step)
            if not early.left_out <= late.left_out or (early.step == late.step and early != late):
                return f"two drop lists of round {first.round_name}, and the later does not contain the earlier"
        case (Receipt(), Drops()) if first.round_name == second.round_name:
            if first.member in second.dropped and second.step <= first.step:
                return f"somebody is called missing in round {first.round_name} and holds a receipt"
        case (Drops(), Receipt()):
            return contradiction(second, first)
    return None


def _product(group: Group, encryptor: Encryptor, transcript: Transcript) -> tuple[bytes, ...]:
    announce, key = transcript.announce, group.key
    graph = PadGraph(announce.roster, bytes.fromhex(announce.beacon))
    seeds: dict[str, dict[str, bytes]] = {}
    for reveal in transcript.reveals:
        seeds.setdefault(reveal.member, {}).update(reveal.seeds)
    survivors = {report.member: report for report in transcript.reports}
    correction = orphaned_pads(group, graph, list(survivors), seeds)
    exponents = [int.from_bytes(exponent, "big") for exponent in transcript.exponents]
    ciphertexts = []
    for index, (plaintext, exponent) in enumerate(zip(correction, exponents, strict=True)):
        factors = [from_bytes(key, report.ciphertexts[index]) for report in survivors.values()]
        if check_ciphertexts(key, factors):
            raise CiphertextRefused("a report holds a ciphertext that is not a unit modulo n^2")
        ciphertexts.append(to_bytes(key, multiply(key, [*factors, encryptor.encrypt(plaintext, exponent)])))
    return tuple(ciphertexts)
