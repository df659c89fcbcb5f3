"""Lies that members and leaders tell in simulated rounds, each with what a liar can really do: its own keys and what it received."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from hil.simulation.aggregation_checks import Claim, slots_of
from hil.simulation.community import Keys, OperatorKeys
from protocols.aggregation import audit, packing
from protocols.aggregation.group import Group
from protocols.aggregation.leader import LeaderRound
from protocols.aggregation.member import Opening
from protocols.aggregation.messages import Aggregate, Announce, Drops, Receipt, merkle_root, seal, sign_report, sign_reveal
from protocols.aggregation.packing import Slots
from protocols.aggregation.pads import PadGraph, add_pads, pad, sign
from protocols.aggregation.paillier import from_bytes, multiply, to_bytes

MEMBER_LIES: Final = ("overflow", "carry", "wrong count", "two reports", "garbage", "non-unit", "wrong seeds", "mute", "borrowed name")
POISON: Final = ("overflow", "carry", "wrong count", "wrong seeds")
"""Lies that spoil a sum, which is then refused; the others only cost their tellers a place in it."""
ROSTER_LIES: Final = ("small roster", "announced twice")
LIST_LIES: Final = (
    "false drop", "two lists", "shrinking list", "below the minimum", "too many decoys", "names the reader", "borrowed list", "few decoys",
)  # fmt: skip
SUM_LIES: Final = ("one report", "half", "weighted", "two aggregates", "nudged", "overcount", "miscount", "not a unit")
LATE_LIE: Final = "late list"
LEADER_LIES: Final = (*ROSTER_LIES, *LIST_LIES[:-1], *SUM_LIES)
SELDOM_LIES: Final = (LIST_LIES[-1], LATE_LIE)
"""Told by some leaders that are honest otherwise."""


def lying_reports(
    lie: str, rng: random.Random, group: Group, operator: OperatorKeys, keys: Keys, opening: Opening, others: Sequence[str]
) -> tuple[list[bytes], Slots]:
    """What a lying member sends instead of its report, and the slots that it stands for."""
    announce = opening.announce
    layout = group.layout
    slots = slots_of(group, list(opening.values), announce.beacon)
    match lie:
        case "overflow":
            slots[0] = np.uint32((int(slots[0]) + (1 << layout.pad_bits - 1)) & layout.mask)
        case "wrong count":
            slots[layout.values + 1] = np.uint32(3)
        case _:
            pass
    padded = add_pads(layout, slots, keys.card.name, opening.pad_seeds)
    if lie == "carry":
        padded[rng.randrange(len(padded))] = np.uint32(0xFFFF_FFFF)
    name = rng.choice(others) if lie == "borrowed name" else keys.card.name
    copies = 2 if lie == "two reports" else 1
    made = [_report(rng, group, operator, keys, announce, padded, name) for _ in range(copies)]
    match lie:
        case "garbage":
            made = [rng.randbytes(rng.randint(0, 400)), made[0][:-1], made[0] + b"\0"]
        case "non-unit":
            bad = rng.choice([0, 1, group.key.n, group.key.n**2, operator.factor * rng.randrange(2, group.key.n)])
            made = [_sealed(group, keys, announce, (to_bytes(group.key, bad),) * group.ciphertexts, name)]
        case _:
            pass
    return made, slots


def lying_seeds(rng: random.Random, group: Group, keys: Keys, announce: Announce, drops: Drops) -> bytes:
    """Seeds that are none."""
    seeds = tuple((peer, rng.randbytes(32)) for peer in sorted(drops.left_out))
    return seal(sign_reveal(keys.signing, announce.round_name, keys.card.name, seeds), group.card(announce.leader).envelope_key)


def lying_announcements(lie: str, announce: Announce, group: Group, rng: random.Random) -> list[Announce]:
    """What a lying leader announces."""
    if lie == "small roster":
        others = [name for name in announce.roster if name != announce.leader]
        few = tuple(sorted({announce.leader, *rng.sample(others, max(0, group.members_min - 2))}))
        return [msgspec.structs.replace(announce, roster=few)]
    return [announce, msgspec.structs.replace(announce, beacon=rng.randbytes(32).hex())]


def lying_lists(lie: str, round_: LeaderRound, group: Group, rng: random.Random) -> list[tuple[Drops, tuple[str, ...]]]:
    """Drop lists of a lying leader, in the order in which it sends them, each with the members that it is sent to."""
    roster, leader = round_.announce.roster, round_.announce.leader
    missing = tuple(sorted(round_.missing))
    present = rng.sample(sorted(round_.reported), len(round_.reported))

    def drops(dropped: Sequence[str], step: int = 0, decoys: Sequence[str] = ()) -> Drops:
        return Drops(
            round_name=round_.announce.round_name, leader=leader, dropped=tuple(sorted(dropped)), decoys=tuple(decoys), step=step
        )

    half = len(present) // 2
    match lie:
        case "false drop":
            return [(drops((*missing, present[0])), roster)]
        case "two lists":
            return [(drops((*missing, present[0])), tuple(present[half:])), (drops((*missing, present[-1])), tuple(present[:half]))]
        case "shrinking list":
            return [(drops((*missing, present[0])), roster), (drops((*missing, present[-1]), step=1), roster)]
        case "below the minimum":
            return [(drops((*missing, *present[: max(0, len(present) - group.members_min + 1)])), roster)]
        case "too many decoys":
            return [(drops(missing, decoys=present[:17]), roster)]
        case "few decoys":
            return [(drops(missing, decoys=present[:1]), roster)]
        case "names the reader":
            return [(drops((*missing, name)), (name,)) for name in present]
        case _:
            borrowed = msgspec.structs.replace(drops((*missing, present[0])), leader=present[-1])
            return [(borrowed, roster)]


def late_list(round_: LeaderRound) -> Drops:
    """One survivor more, after the sum was opened."""
    dropped = {*round_._dropped, round_.survivors[0]}
    decoys = tuple(name for name in round_._decoys if name not in dropped)
    announce = round_.announce
    return Drops(
        round_name=announce.round_name, leader=announce.leader, dropped=tuple(sorted(dropped)), decoys=decoys, step=round_._step + 1
    )


def unmasking(
    round_: LeaderRound, group: Group, operator: OperatorKeys, victim: str, loot: dict[tuple[str, str], bytes], count: int, exponent: int
) -> Aggregate | None:
    """The report of a falsely dropped member, freed of its pads and passed off as a sum of `count`; None where a seed is not there."""
    layout = group.layout
    graph = PadGraph(round_.announce.roster, bytes.fromhex(round_.announce.beacon))
    total = np.zeros(layout.slots, dtype=np.int64)
    for peer in graph.neighbours(victim):
        seed = loot.get((peer, victim))
        if seed is None:
            return None
        total -= sign(victim, peer) * pad(layout, seed).astype(np.int64)
    total[layout.values + 1] += count - 1
    correction = packing.pack((total & layout.mask).astype(np.uint32), group.chunk)
    ciphertexts = [
        multiply(group.key, [value, operator.encryptor.encrypt(plaintext, exponent)])
        for value, plaintext in zip(round_._reports[victim][1], correction, strict=True)
    ]
    return _aggregate(round_, group, ciphertexts, count, (victim,))


def lying_aggregates(
    lie: str, round_: LeaderRound, group: Group, operator: OperatorKeys, exponents: list[int], rng: random.Random
) -> list[tuple[Aggregate, Claim]]:
    """What a lying leader sends as the sum, and what can be proved about it."""
    honest = round_.aggregate(exponents)
    products = [from_bytes(group.key, data) for data in honest.ciphertexts]
    survivors, count, key = round_.survivors, honest.count, group.key
    own = {name: round_._reports[name][1] for name in survivors}
    part = survivors[:1] if lie == "one report" else survivors[: max(1, len(survivors) // 2)]
    match lie:
        case "one report" | "half":
            forged = [multiply(key, [own[name][i] for name in part]) for i in range(group.ciphertexts)]
            forged = _added(group, operator, forged, {group.layout.values + 1: count - len(part)})
        case "weighted":
            part = survivors
            forged = [multiply(key, [*(own[name][i] for name in survivors[1:]), own[survivors[1]][i]]) for i in range(group.ciphertexts)]
        case "nudged":
            part = survivors
            alpha = packing.checksum_coefficients(group.layout, bytes.fromhex(honest.beacon))
            checksum = 5 * int(alpha[0]) & group.layout.mask
            forged = _added(group, operator, products, {0: 5, group.layout.values: checksum})
        case "overcount":
            part, count = survivors, count + 1
            forged = _added(group, operator, products, {group.layout.values + 1: 1})
        case "miscount":
            part, count, forged = survivors, count + 1, products
        case "not a unit":
            part, forged = survivors, [rng.choice([0, 1, key.n, operator.factor])] * group.ciphertexts
        case _:
            again = round_.aggregate([exponent ^ 1 for exponent in exponents])
            claim = Claim(summed=survivors, honest=False)
            return [(honest, claim), (again, claim), (honest, claim)]
    aggregate = _aggregate(round_, group, forged, count, survivors)
    proof = audit.audit(group, operator.encryptor, round_.transcript(exponents), aggregate)
    return [(aggregate, Claim(summed=part, honest=False, proof=proof))]


def proof_of_false_drop(receipt: Receipt | None, drops: Drops) -> str | None:
    """What a falsely dropped member can show."""
    return None if receipt is None else audit.contradiction(receipt, drops)


def _added(group: Group, operator: OperatorKeys, ciphertexts: list[int], slots: dict[int, int]) -> list[int]:
    """The ciphertexts with numbers added to some of their slots."""
    vector = np.zeros(group.layout.slots, dtype=np.uint32)
    for index, value in slots.items():
        vector[index] = value
    plaintexts = packing.pack(vector, group.chunk)
    return [
        multiply(group.key, [value, operator.encryptor.encrypt(plaintext, 12345)])
        for value, plaintext in zip(ciphertexts, plaintexts, strict=True)
    ]


def _aggregate(round_: LeaderRound, group: Group, ciphertexts: list[int], count: int, survivors: Sequence[str]) -> Aggregate:
    honest_root = merkle_root([round_._reports[name][0] for name in survivors])
    return Aggregate(
        round_name=round_.announce.round_name,
        leader=round_.announce.leader,
        key_id=group.key.key_id,
        count=count,
        beacon=round_.announce.beacon,
        root=honest_root,
        ciphertexts=tuple(to_bytes(group.key, value) for value in ciphertexts),
    )


def _report(
    rng: random.Random, group: Group, operator: OperatorKeys, keys: Keys, announce: Announce, padded: Slots, name: str
) -> bytes:
    ciphertexts = tuple(
        to_bytes(group.key, operator.encryptor.encrypt(plaintext, rng.getrandbits(group.key.exponent_bits)))
        for plaintext in packing.pack(padded, group.chunk)
    )
    return _sealed(group, keys, announce, ciphertexts, name)


def _sealed(group: Group, keys: Keys, announce: Announce, ciphertexts: tuple[bytes, ...], name: str) -> bytes:
    return seal(sign_report(keys.signing, announce.round_name, name, ciphertexts), group.card(announce.leader).envelope_key)
