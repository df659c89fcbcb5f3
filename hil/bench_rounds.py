"""Rows of the bench: whole rounds that are sent everything at random, and what a tap with the operator's key would see.

Keys have 1024 bits, for speed: slots, pads, packing and all rules are the same at every length. In a fuzzed round up to half of the members
are absent, a tenth falls silent in recovery, values are drawn among the signed extremes, and the leader receives envelopes made up,
cut, changed or sent twice. It ends in the exact sum, or in a refusal that says why.

The tap opens the envelope of each single report with the leader's key and decrypts it with the operator's, which is more than any role
can do alone. Expected: slots uniform modulo 2^w (Kolmogorov-Smirnov at 1 %, critical value 1.628 / sqrt(n), Massey 1951, table 1), and
uncorrelated with the truth.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hil.simulation.community import Keys, OperatorKeys, group, member_keys, operator_keys
from protocols.aggregation import packing
from protocols.aggregation.group import Group, RoundRefused
from protocols.aggregation.leader import LeaderRound
from protocols.aggregation.member import Member, Randomiser
from protocols.aggregation.messages import Announce, SealRefused, unseal_report
from protocols.aggregation.operator import OperatorBook
from protocols.aggregation.packing import Layout
from protocols.aggregation.paillier import CiphertextRefused, exponent_from_seed

BITS: Final = 1024
COMB: Final = (6, 2)
ROUNDS: Final = 1000
SLOTS: Final = 20_000
TAPPED_VALUES: Final = 24
MEMBERS_MIN: Final = 3
MEMBERS_MAX: Final = 12
KS_CRITICAL: Final = 1.628

Row = dict[str, Any]
Array = npt.NDArray[np.float64]


class Round:
    """One round of some members, ready to be played."""

    def __init__(self, rng: random.Random, members: int, values: int, number: int) -> None:
        self.rng = rng
        self.operator: OperatorKeys = operator_keys(1, BITS, *COMB)
        self.group: Group = group(members, self.operator, Layout(values=values, members_max=MEMBERS_MAX), MEMBERS_MIN)
        self.keys: dict[str, Keys] = {keys.card.name: keys for keys in map(member_keys, range(members))}
        self.announce = Announce(
            round_name=f"1:{number}",
            leader=next(iter(self.keys)),
            key_id=self.group.key.key_id,
            roster=tuple(self.keys),
            beacon=rng.randbytes(32).hex(),
            closes_s=0.0,
        )
        self.members = {
            name: Member(name, self.group, keys.signing, keys.pads, self.operator.encryptor) for name, keys in self.keys.items()
        }
        self.leader = LeaderRound(self.group, self.announce, self.keys[self.announce.leader].envelope, self.operator.encryptor)

    def report(self, name: str, values: list[int]) -> bytes:
        """What this member sends."""
        encryptor = self.operator.encryptor
        seeds = [self.rng.randbytes(32) for _ in range(self.group.ciphertexts)]
        made = [Randomiser(seed, encryptor.randomiser(exponent_from_seed(encryptor.key, seed))) for seed in seeds]
        return self.members[name].report(self.announce, values, made)[0]

    def extremes(self) -> list[int]:
        """Values at and between the bounds."""
        limit = self.group.layout.value_max
        return [self.rng.choice((-limit, limit, 0, self.rng.randint(-limit, limit))) for _ in range(self.group.layout.values)]


def fuzz_rows(rounds: int = ROUNDS) -> list[Row]:
    """Rounds with wrong sums, and refusals without a reason; both must not be."""
    ends, refusals = Counter[str](), Counter[str]()
    for number in range(1, rounds + 1):
        ends[_fuzzed(number, refusals)] += 1
    unnamed = refusals.pop("", 0)
    refused = sum(refusals.values())
    note = f"{rounds} rounds: {ends['exact']} exact, {ends['refused']} below the smallest group; {refused} envelopes refused by name"
    return [
        _row("fuzzed_rounds_wrong", ends["wrong"], "rounds", "<= 0", note),
        _row("fuzzed_rounds_unnamed", unnamed, "refusals", "<= 0", "refusals without a reason, of members, leader or operator"),
    ]


def _fuzzed(number: int, refusals: Counter[str]) -> str:
    rng = random.Random(number)
    size = rng.randint(MEMBERS_MIN, MEMBERS_MAX)
    one = Round(rng, size, rng.choice((1, 7, 40)), number)
    names = list(one.members)
    absent = set(rng.sample(names, rng.randint(0, size // 2)))
    mute = {name for name in names if rng.random() < 0.1}
    values = {name: one.extremes() for name in names}
    for name in rng.sample(names, size):
        if name in absent:
            continue
        sealed = one.report(name, values[name])
        for sent in (sealed, *_malformed(rng, sealed), *((sealed,) if rng.random() < 0.2 else ())):
            try:
                one.leader.receive_report(sent)
            except (RoundRefused, SealRefused, CiphertextRefused) as refusal:
                refusals[str(refusal)] += 1
    try:
        drops = one.leader.close()
        while drops is not None:
            for name in one.leader.survivors:
                revealed = None if name in mute else one.members[name].reveal(drops)
                if revealed is not None:
                    one.leader.receive_reveal(revealed)
            drops = one.leader.advance()
    except RoundRefused as refusal:
        refusals[str(refusal)] += 1
        return "refused" if len(one.leader.survivors) < MEMBERS_MIN else "wrong"
    exponents = [rng.getrandbits(one.group.key.exponent_bits) for _ in range(one.group.ciphertexts)]
    book = OperatorBook(one.group.key, one.group.layout, one.operator.private.raw_decrypt, members_min=MEMBERS_MIN)
    answer, sums = book.receive(one.leader.aggregate(exponents))
    expected = np.array([values[name] for name in one.leader.survivors]).sum(axis=0).tolist()
    exact = sums is not None and sums.values.tolist() == expected and sums.count == len(one.leader.survivors)
    return "exact" if exact and answer.accepted else "wrong"


def _malformed(rng: random.Random, sealed: bytes) -> list[bytes]:
    """Now and then something that is no envelope, or no longer one."""
    if rng.random() > 0.3:
        return []
    place = rng.randrange(len(sealed))
    changed = sealed[:place] + bytes((sealed[place] ^ 1 << rng.randrange(8),)) + sealed[place + 1 :]
    return [rng.choice((rng.randbytes(rng.randint(0, 400)), sealed[:place], sealed + b"\0", changed))]


def tap_rows(slots: int = SLOTS) -> list[Row]:
    """How far the opened single reports are from noise."""
    seen, truth, modulus = _tapped(slots)
    ordered = np.sort(seen) / modulus
    steps = np.arange(slots + 1) / slots
    distance = max(float(np.max(steps[1:] - ordered)), float(np.max(ordered - steps[:-1])))
    centred = np.where(seen >= modulus / 2.0, seen - modulus, seen)
    correlation = max(abs(float(np.corrcoef(one, truth)[0, 1])) for one in (seen, centred))
    note = f"{slots:,} slots of single reports, unsealed and decrypted"
    return [
        _row("tap_uniform", distance * float(np.sqrt(slots)) / KS_CRITICAL, "of critical", "<= 1", f"{note}: Kolmogorov-Smirnov at 1 %"),
        _row("tap_correlation", correlation, "", "<= 0.02", f"{note}: with the truth, raw and centred"),
    ]


def _tapped(slots: int) -> tuple[Array, Array, int]:
    """(slots as decrypted, true values, modulus) of single households."""
    rng = random.Random(5)
    hours = np.arange(TAPPED_VALUES)
    seen: list[Array] = []
    truth: list[Array] = []
    number = 0
    while len(seen) * TAPPED_VALUES < slots:
        number += 1
        one = Round(rng, MEMBERS_MAX, TAPPED_VALUES, number)
        envelope, layout = one.keys[one.announce.leader].envelope, one.group.layout
        for index, name in enumerate(one.members):
            curve = np.round(3000.0 * np.sin((hours + index) / 4.0) + 500.0 * rng.gauss(0.0, 1.0))
            report = unseal_report(one.report(name, [int(watts) for watts in curve]), one.announce.round_name, envelope)
            plaintexts = [int(one.operator.private.raw_decrypt(int.from_bytes(data, "big"))) for data in report.ciphertexts]
            seen.append(packing.unpack(plaintexts, layout.slots, one.group.chunk)[:TAPPED_VALUES].astype(np.float64))
            truth.append(curve)
    return np.concatenate(seen)[:slots], np.concatenate(truth)[:slots], layout.mask + 1


def _row(name: str, value: float, unit: str, target: str, note: str) -> Row:
    return {"name": name, "value": value, "unit": unit, "target": target, "met": value <= float(target.split()[1]), "note": note}
