"""Rows of the bench: what secrecy costs a household, its leader and the operator, and how safe elections are under faults.

Everything that is compared is measured in one interleaved run of process CPU time with 3200-bit keys: in each pass one raw modular
exponentiation of GMP (r^n mod n^2, the cost of one textbook ciphertext: the unit `powm`), a naive ciphertext of `phe`, and each of our
operations, so a busy machine slows all of them alike. The ratios are medians of the ratios of one pass.

*Encrypting* a report is checking its values, checksum, packing, and the ciphertext: what the naive way does for each value. The *whole
report* adds pads with 48 neighbours, the envelope and the signature. Bytes are those of MQTT 5 packets, with topics and acknowledgements.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import gmpy2
import numpy as np
import phe
from msgspec import Struct, field, structs

from hil.errors import RunError
from hil.simulation import election
from hil.simulation.community import OperatorKeys, group, member_keys, operator_keys
from hil.simulation.search import search
from protocols.aggregation import packing
from protocols.aggregation.calls import announcement, seat_mask
from protocols.aggregation.group import Group
from protocols.aggregation.leader import LeaderRound
from protocols.aggregation.member import Member, Randomiser
from protocols.aggregation.messages import Acknowledgement, Announce, Receipt, sign_receipt
from protocols.aggregation.operator import OperatorBook
from protocols.aggregation.packing import Layout
from protocols.aggregation.paillier import COMB_TABLES, COMB_TEETH, exponent_from_seed
from protocols.bus import BusMessage
from protocols.election.values import Epoch, Seat
from protocols.messages import RoundCall, RoundContent, RoundNotice
from protocols.signing import Sequencer, Signer
from protocols.topics import coordinator_topic, round_topic, sealed_topic

BITS: Final = 3200
MEMBERS: Final = 100
PASSES: Final = 9
NAIVE_VALUES: Final = 2
FRESH: Final = 5
POOLED: Final = 20
ELECTIONS: Final = 10_000
SEARCHED: Final = ((3, 3), (4, 2), (4, 3))
"""(members, terms) of which every schedule is tried."""
COMMUNITY: Final = "bench"

Row = dict[str, Any]


class Measured(Struct):
    """CPU seconds of each operation, one entry for each pass."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def time(self, name: str, action: Callable[[], Any], share: int = 1) -> Any:
        """Do it once, and count `1 / share` of its CPU time."""
        begun_s = time.process_time()
        result = action()
        self.seconds.setdefault(name, []).append((time.process_time() - begun_s) / share)
        return result

    def median_s(self, name: str) -> float:
        """Median CPU time."""
        return statistics.median(self.seconds[name])

    def ratio(self, name: str, unit: str) -> float:
        """Median of the ratios of one pass."""
        return statistics.median(a / b for a, b in zip(self.seconds[name], self.seconds[unit], strict=True))


class World:
    """A community of `members` under one 3200-bit key, ready to hold rounds of `values` values."""

    def __init__(self, operator: OperatorKeys, values: int, members: int = MEMBERS) -> None:
        self.rng = random.Random(values)
        self.operator = operator
        self.group: Group = group(members, operator, Layout(values=values), members_min=10)
        self.members = {
            name: Member(name, self.group, keys.signing, keys.pads, operator.encryptor)
            for name, keys in ((keys.card.name, keys) for keys in map(member_keys, range(members)))
        }
        self.leader = next(iter(self.members))
        self.epoch = Epoch(
            number=1,
            seats=tuple(
                Seat(name=name, public_key=card.signing_key.public_bytes_raw().hex(), reputation=0.9)
                for name, card in self.group.cards.items()
            ),
            reputation_min=0.5,
            seed="00" * 32,
        )
        self.number = 0

    def call(self) -> RoundCall:
        """The leader's next call."""
        self.number += 1
        return RoundCall(
            round_name=f"1:{self.number}", epoch=1, key_id=self.group.key.key_id, seats=seat_mask(self.epoch, list(self.members)),
            previous="00" * 32, content=RoundContent.PLAN, start_s=1_800_000_000.0, step_s=900.0, closes_s=1_800_000_020.0,
        )  # fmt: skip

    def vector(self) -> list[int]:
        """A household's plan in watts."""
        return [self.rng.randint(-10_000, 10_000) for _ in range(self.group.layout.values)]

    def seeds(self) -> list[bytes]:
        """Fresh seeds for the randomisers of one report."""
        return [self.rng.randbytes(32) for _ in range(self.group.ciphertexts)]

    def randomisers(self, seeds: list[bytes]) -> list[Randomiser]:
        """The randomisers that these seeds stand for, computed now: by the comb."""
        encryptor = self.operator.encryptor
        return [Randomiser(seed, encryptor.randomiser(exponent_from_seed(encryptor.key, seed))) for seed in seeds]

    def encrypt(self, vector: list[int], randomisers: list[Randomiser], beacon: str) -> list[int]:
        """Values to ciphertexts, without pads."""
        layout, encryptor = self.group.layout, self.operator.encryptor
        slots = packing.encode(layout, vector, packing.checksum_coefficients(layout, bytes.fromhex(beacon)))
        plaintexts = packing.pack(slots, self.group.chunk)
        return [encryptor.combine(plaintext, one.value) for plaintext, one in zip(plaintexts, randomisers, strict=True)]

    def encrypt_fresh(self, reports: list[tuple[list[int], list[bytes]]]) -> None:
        """Values to ciphertexts, with randomisers that are computed now."""
        for vector, seeds in reports:
            self.encrypt(vector, self.randomisers(seeds), "11" * 32)

    def ready(self, count: int) -> list[tuple[list[int], list[Randomiser]]]:
        """Reports to be made, each with what a pool would hand out: any units cost the same to use."""
        square, chunks = self.group.key.n**2, range(self.group.ciphertexts)
        return [(self.vector(), [Randomiser(b"", self.rng.randrange(square)) for _ in chunks]) for _ in range(count)]

    def encrypt_ready(self, reports: list[tuple[list[int], list[Randomiser]]]) -> None:
        """Values to ciphertexts, with randomisers from a pool."""
        for vector, randomisers in reports:
            self.encrypt(vector, randomisers, "11" * 32)

    def round(self, measured: Measured | None = None) -> tuple[LeaderRound, dict[str, bytes], list[list[int]]]:
        """All members report; the first report that uses a set of pads and the others are counted apart."""
        announce = announcement(self.epoch, self.call(), self.leader)
        round_ = LeaderRound(self.group, announce, member_keys(0).envelope, self.operator.encryptor)
        sealed, vectors = {}, []
        for name, member in self.members.items():
            vectors.append(self.vector())
            sealed[name] = self._report(member, announce, vectors[-1], measured if name == self.leader else None)
        return round_, sealed, vectors

    def _report(self, member: Member, announce: Announce, vector: list[int], measured: Measured | None) -> bytes:
        if measured is None:
            return member.report(announce, vector, self.randomisers(self.seeds()))[0]
        made = measured.time("comb", lambda: self.randomisers(self.seeds()))
        reported: tuple[bytes, Any] = measured.time("rest", lambda: member.report(announce, vector, made))
        return reported[0]


def secrecy_rows(*, passes: int = PASSES, members: int = MEMBERS, bits: int = BITS) -> list[Row]:
    """CPU and bytes of household, leader and operator."""
    operator = operator_keys(1, bits, COMB_TEETH, COMB_TABLES)
    day, long = World(operator, 96, members), World(operator, 288, 10)
    measured = Measured()
    day.round()
    for _ in range(passes):
        _one_pass(day, long, measured)
    return [*_household_rows(measured, day), *_wire_rows(day), *_wire_rows(long), *_centre_rows(measured, members)]


def _one_pass(day: World, long: World, measured: Measured) -> None:
    key = day.operator.public
    modulus, square = gmpy2.mpz(key.n), gmpy2.mpz(key.n) ** 2
    base = gmpy2.mpz(day.rng.randrange(2, key.n))
    measured.time("powm", lambda: gmpy2.powmod(base, modulus, square))
    naive = phe.PaillierPublicKey(key.n)
    measured.time("naive value", lambda: [naive.encrypt(value) for value in day.vector()[:NAIVE_VALUES]], NAIVE_VALUES)
    for name, world in (("96", day), ("288", long)):
        reports = [(world.vector(), world.seeds()) for _ in range(FRESH)]
        measured.time(f"encrypt {name}", partial(world.encrypt_fresh, reports), FRESH)
        measured.time(f"pool {name}", partial(world.encrypt_ready, world.ready(POOLED)), POOLED)
    round_, sealed, vectors = day.round(measured)
    measured.time("receive", lambda: [round_.receive_report(one) for one in sealed.values()], len(sealed))
    exponents = [day.rng.getrandbits(key.exponent_bits) for _ in range(day.group.ciphertexts)]
    aggregate = measured.time("aggregate", lambda: (round_.close(), round_.aggregate(exponents))[1], len(sealed))
    book = OperatorBook(key, day.group.layout, day.operator.private.raw_decrypt, members_min=10)
    answer, sums = measured.time("operator", lambda: book.receive(aggregate))
    if not answer.accepted or sums.values.tolist() != np.array(vectors).sum(axis=0).tolist():
        raise RunError(f"leadership bench: the sum of {len(sealed)} reports is not exact: {answer.reason or 'wrong values'}")


def _household_rows(measured: Measured, day: World) -> list[Row]:
    naive_ms = 96e3 * measured.median_s("naive value")
    encrypt_ms, comb_ms, rest_ms = (1e3 * measured.median_s(name) for name in ("encrypt 96", "comb", "rest"))
    powm = f"powm = {1e3 * measured.median_s('powm'):.1f} ms, {BITS} bits"
    neighbours = f"{len(day.members)} members, pads towards about {min(48, len(day.members) - 1)}, envelope, signature"
    whole = [a + b for a, b in zip(measured.seconds["comb"], measured.seconds["rest"], strict=True)]
    measured.seconds["whole"] = whole
    ratio = 96.0 * statistics.median(a / b for a, b in zip(measured.seconds["naive value"], measured.seconds["encrypt 96"], strict=True))
    whole_ratio = 96.0 * statistics.median(a / b for a, b in zip(measured.seconds["naive value"], whole, strict=True))
    naive = f"naive phe {naive_ms:.0f} ms"
    return [
        _row("report_96_naive_phe_ratio", ratio, "x", ">= 1000", f"{naive}, ours {encrypt_ms:.2f} ms: 96 values encrypted"),
        _row("report_96_naive_phe_ratio_whole", whole_ratio, "x", None, f"{naive}, ours {comb_ms + rest_ms:.2f} ms: {neighbours}"),
        _row("report_96_encrypt", measured.ratio("encrypt 96", "powm"), "powm", "<= 0.08", f"{encrypt_ms:.2f} ms by the comb; {powm}"),
        _row("report_96_pool", measured.ratio("pool 96", "powm"), "powm", "<= 0.005",
             f"{1e3 * measured.median_s('pool 96'):.3f} ms with a randomiser from the pool"),
        _row("report_96_whole", measured.ratio("whole", "powm"), "powm", None, f"{comb_ms + rest_ms:.2f} ms: {neighbours}"),
        _row("report_96_whole_pool", measured.ratio("rest", "powm"), "powm", None, f"{rest_ms:.2f} ms: the same with a pool"),
        _row("report_288_encrypt", measured.ratio("encrypt 288", "powm"), "powm", "<= 0.25",
             f"{1e3 * measured.median_s('encrypt 288'):.2f} ms by the comb, 3 ciphertexts"),
    ]  # fmt: skip


def _centre_rows(measured: Measured, members: int) -> list[Row]:
    seconds = measured.seconds
    seconds["leader"] = [a + b for a, b in zip(seconds["receive"], seconds["aggregate"], strict=True)]
    words = f"{members} reports of 96 values: open, verify, check, and a share of the product"
    return [
        _row("leader_per_report", 1e3 * measured.median_s("leader"), "ms CPU", "<= 0.5", words),
        _row("leader_per_report_powm", measured.ratio("leader", "powm"), "powm", "<= 0.03", words),
        _row("operator_per_community", 1e3 * measured.median_s("operator"), "ms CPU", "<= 15", "check, decrypt, unpack, verify"),
        _row("operator_per_community_powm", measured.ratio("operator", "powm"), "powm", "<= 0.6", "check, decrypt, unpack, verify"),
    ]


def _wire_rows(world: World) -> list[Row]:
    """Packets of one undisturbed round, from and to one household."""
    call = world.call()
    announce = announcement(world.epoch, call, world.leader)
    name = list(world.members)[7]
    sealed, _ = world.members[name].report(announce, world.vector(), world.randomisers(world.seeds()))
    receipt = world.members[name].receipt
    assert isinstance(receipt, Receipt)
    report = packet_bytes(BusMessage(topic=sealed_topic(COMMUNITY, name, "report", world.leader), payload=sealed))
    signature = sign_receipt(member_keys(0).signing, receipt)
    answered = packet_bytes(BusMessage(topic=sealed_topic(COMMUNITY, world.leader, "receipt", name), payload=signature))
    shared = _shared_bytes(world, call)
    values = world.group.layout.values
    target, stretch = (1150, 1024) if values == 96 else (2750, 1800)
    ciphertexts = world.group.ciphertexts * world.group.key.ciphertext_bytes
    note = f"report {report} (ciphertexts {ciphertexts}), receipt {answered}; stretch {stretch}"
    everything = report + answered + shared
    return [
        _row(f"report_{values}_bytes", report + answered, "B", f"<= {target}", note),
        _row(f"report_{values}_bytes_heard_too", everything, "B", None, f"with the call and the acknowledgement that all hear: {shared} B"),
    ]


def _shared_bytes(world: World, call: RoundCall) -> int:
    signer, sequencer = Signer(member_keys(0).signing), Sequencer(call.start_s)

    def said(topic: str, body: RoundCall | Acknowledgement) -> int:
        notice = RoundNotice(sender=world.leader, time_s=call.start_s + 0.123, sequence=sequencer.next(), body=body)
        return packet_bytes(structs.replace(signer.seal(topic, notice), expiry_s=20))

    answer = Acknowledgement(round_name=call.round_name, digest="00" * 32, accepted=True)
    return said(round_topic(COMMUNITY, world.leader, "call"), call) + said(coordinator_topic(COMMUNITY, "round"), answer)


def packet_bytes(message: BusMessage) -> int:
    """Bytes of an MQTT 5 PUBLISH at QoS 1 (OASIS MQTT 5.0, section 3.3) and of its PUBACK."""
    properties = sum(5 + len(name.encode()) + len(value.encode()) for name, value in message.properties.items())
    properties += 0 if message.expiry_s is None else 5
    remaining = 2 + len(message.topic.encode()) + 2 + _varint(properties) + properties + len(message.payload)
    return 1 + _varint(remaining) + remaining + 4


def _varint(number: int) -> int:
    return 1 if number < 128 else 2 if number < 16384 else 3


def election_rows(runs: int = ELECTIONS) -> list[Row]:
    """Terms with two leaders, and whatever else a checker finds, in seeded runs."""
    broken, terms, checks = 0, 0, 0
    for seed in range(runs):
        outcome = election.simulate(seed, liveness=seed % 4 == 0)
        broken += sum(len(found) for found in outcome.violations.values())
        terms += outcome.terms
        checks += sum(outcome.checks.values())
    note = f"{runs} seeded runs of 3 to 7 members, {terms:,} terms, {checks:,} checks"
    return [_row("election_runs_violations", broken, "violations", "<= 0", note)]


def search_rows(cases: Sequence[tuple[int, int]] = SEARCHED) -> list[Row]:
    """What an exhaustive search of small elections finds."""
    found = [search(members, terms) for members, terms in cases]
    named = ", ".join(f"{members} members to term {terms}" for members, terms in cases)
    note = f"{sum(one.states for one in found):,} states: {named}"
    return [_row("election_search_violations", sum(len(one.violations) for one in found), "violations", "<= 0", note)]


def _row(name: str, value: float, unit: str, target: str | None, note: str) -> Row:
    met: bool | None = None
    if target is not None:
        sense, bound = target.split()
        met = value >= float(bound) if sense == ">=" else value <= float(bound)
    return {"name": name, "value": value, "unit": unit, "target": "" if target is None else target, "met": met, "note": note}
