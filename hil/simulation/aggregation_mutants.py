"""Bugs planted in the rounds on purpose, to show that their simulation bites (see `hil.simulation.mutants`)."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Collection, Iterator
from typing import Any
from unittest.mock import patch

import msgspec
import numpy as np

from edge.leadership import pool
from edge.leadership.files import read_whole
from edge.leadership.pool import RandomiserPool
from hil.simulation import aggregation
from hil.simulation.mutants import Mutant
from protocols.aggregation import audit, differencing, leader, member, operator, packing
from protocols.aggregation.group import RoundRefused
from protocols.aggregation.leader import LeaderRound, Phase
from protocols.aggregation.member import Member, Randomiser, check_time
from protocols.aggregation.messages import Acknowledgement, Aggregate, Announce, Receipt
from protocols.aggregation.operator import OperatorBook, Sums
from protocols.aggregation.packing import Layout, Slots, Values
from protocols.aggregation.pads import PadKeys

Planted = contextlib.AbstractContextManager[Any]


def answers_a_round_again() -> Planted:
    original = Member._check_announce

    def without_memory(one: Member, announce: Announce, newest: tuple[int, int]) -> None:
        original(one, announce, (0, 0))

    return patch.object(Member, "_check_announce", without_memory)


def reports_without_memory() -> Planted:
    def careless(announce: Announce, now_s: float, *, forgot_s: float | None = None) -> None:
        check_time(announce, now_s)

    return patch.object(aggregation, "check_time", careless)


def pads_of_the_pair_alone() -> Planted:
    original = PadKeys.seed
    return patch.object(PadKeys, "seed", lambda keys, peer, public, context: original(keys, peer, public, b""))


def joins_any_roster() -> Planted:
    return _refusal_ignored(Member, "_check_announce", "make a round")


def drop_list_may_shrink() -> Planted:
    return _refusal_ignored(Member, "_check_drops", "does not contain an earlier")


def unmasks_below_the_minimum() -> Planted:
    return _refusal_ignored(Member, "_check_drops", "below the smallest")


def unmasks_itself() -> Planted:
    return _refusal_ignored(Member, "_check_drops", "is on the drop list")


def decoys_unbounded() -> Planted:
    return patch.object(member, "DECOYS_MAX", 10_000)


def obeys_a_borrowed_list() -> Planted:
    return _refusal_ignored(Member, "_check_drops", "the round is led by")


def decoys_may_be_few() -> Planted:
    return _refusal_ignored(Member, "_check_drops", "decoys: none")


def reveals_after_the_answer() -> Planted:
    return patch.object(Member, "end", lambda member, round_name: None)


def late_report_taken() -> Planted:
    original = LeaderRound.receive_report

    def patient(round_: LeaderRound, sealed: bytes) -> Receipt:
        phase, round_.phase = round_.phase, Phase.COLLECTING
        try:
            return original(round_, sealed)
        finally:
            round_.phase = phase

    return patch.object(LeaderRound, "receive_report", patient)


def silent_members_change_the_group() -> Planted:
    original = LeaderRound.advance
    return patch.object(LeaderRound, "advance", lambda round_, decoys=(): original(round_))


def no_decoys() -> Planted:
    return patch.object(differencing, "decoys", lambda *given, **named: ())


def only_the_last_sum_counts() -> Planted:
    original = differencing.decoys

    def short_sighted(previous: Collection[str], present: Collection[str], rng: random.Random, **named: Any) -> tuple[str, ...]:
        return original(previous, present, rng)

    return patch.object(differencing, "decoys", short_sighted)


def single_decoys() -> Planted:
    """As many decoys as the difference needs, which may be one: leader and operator together can open it. Members do not mind."""

    def sparing(previous: Collection[str], present: Collection[str], rng: random.Random, **named: Any) -> tuple[str, ...]:
        changed = len(set(previous) ^ set(present))
        if not previous or changed == 0 or changed >= differencing.BATCH:
            return ()
        return tuple(rng.sample(sorted(set(previous) & set(present)), differencing.BATCH - changed))

    return _together(patch.object(differencing, "decoys", sparing), decoys_may_be_few())


def answers_two_aggregates() -> Planted:
    original = OperatorBook.receive

    def forgetful(book: OperatorBook, aggregate: Aggregate) -> tuple[Acknowledgement, Sums | None]:
        book._answered.clear()
        book._newest = (0, 0)
        return original(book, aggregate)

    return patch.object(OperatorBook, "receive", forgetful)


def answers_again_after_a_restart() -> Planted:
    return patch.object(OperatorBook, "restore", lambda book, data: None)


def says_what_it_decrypted() -> Planted:
    original = OperatorBook.receive

    def talkative(book: OperatorBook, aggregate: Aggregate) -> tuple[Acknowledgement, Sums | None]:
        answer, sums = original(book, aggregate)
        return msgspec.structs.replace(answer, reason=book.findings.get(aggregate.round_name, answer.reason)), sums

    return patch.object(OperatorBook, "receive", talkative)


def checksum_not_checked() -> Planted:
    def trusting(layout: Layout, slots: Slots, alpha: Values) -> tuple[Values, int]:
        reduced = slots.astype(np.int64) & layout.mask
        return packing.centred(layout, reduced[: layout.values]), int(reduced[layout.values + 1])

    return patch.object(packing, "decode", trusting)


def head_count_not_checked() -> Planted:
    original = OperatorBook._open

    def trusting(book: OperatorBook, aggregate: Aggregate, ciphertexts: list[int]) -> Sums:
        counts: list[int] = []
        decode = packing.decode

        def noting(layout: Layout, slots: Slots, alpha: Values) -> tuple[Values, int]:
            values, count = decode(layout, slots, alpha)
            counts.append(count)
            return values, aggregate.count

        with patch.object(packing, "decode", noting):
            sums = original(book, aggregate, ciphertexts)
        return Sums(sums.round_name, sums.values, counts[0])

    return patch.object(OperatorBook, "_open", trusting)


def units_not_checked() -> Planted:
    patches: list[Planted] = [patch.object(module, "check_ciphertexts", lambda *given: []) for module in (leader, operator)]
    return _together(*patches)


def randomiser_stays_in_the_pool() -> Planted:
    def greedy(store: RandomiserPool, count: int) -> tuple[Randomiser, ...]:
        store._entries += [store._made() for _ in range(count - len(store._entries))]
        return tuple(store._randomiser(entry) for entry in store._entries[:count])

    return patch.object(RandomiserPool, "take", greedy)


def believes_a_backup() -> Planted:
    def trusting(store: RandomiserPool) -> list[bytes]:
        body = read_whole(store._file)
        if body is None:
            return []
        kept = msgspec.msgpack.decode(body, type=pool._Pool)
        return list(kept.entries) if kept.key_id == store._encryptor.key.key_id else []

    return patch.object(RandomiserPool, "_restored", trusting)


def audit_looks_at_the_root_alone() -> Planted:
    original = audit.audit

    def superficial(*given: Any) -> str | None:
        finding = original(*given)
        return None if finding is not None and "not the product" in finding else finding

    return patch.object(audit, "audit", superficial)


def _refusal_ignored(owner: type, method: str, words: str) -> Planted:
    original = getattr(owner, method)

    def lenient(*given: Any) -> None:
        try:
            original(*given)
        except RoundRefused as refusal:
            if words not in str(refusal):
                raise

    return patch.object(owner, method, lenient)


@contextlib.contextmanager
def _together(*patches: Planted) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for planted in patches:
            stack.enter_context(planted)
        yield


AGGREGATION_MUTANTS: tuple[Mutant, ...] = (
    Mutant(name="answers a round again", rule="member 1: newer than every answered round", seed=0, plant=answers_a_round_again),
    Mutant(name="reports without memory", rule="member 4: sits out after lost memory", seed=4, plant=reports_without_memory),
    Mutant(name="pads of the pair alone", rule="pads: from the announcement's digest", seed=0, plant=pads_of_the_pair_alone),
    Mutant(name="joins any roster", rule="member 1: at least the smallest group", seed=56, plant=joins_any_roster),
    Mutant(name="drop list may shrink", rule="member 3: contains every earlier list", seed=11, plant=drop_list_may_shrink),
    Mutant(name="unmasks below the minimum", rule="member 3: never below the smallest group", seed=33, plant=unmasks_below_the_minimum),
    Mutant(name="unmasks itself", rule="member 3: never when it is left out", seed=0, plant=unmasks_itself),
    Mutant(name="decoys unbounded", rule="member 3: the number of decoys is bounded", seed=26, plant=decoys_unbounded),
    Mutant(name="obeys a borrowed list", rule="member 3: of the round's leader", seed=5, plant=obeys_a_borrowed_list),
    Mutant(name="decoys may be few", rule="member 3: decoys come in batches", seed=72, plant=decoys_may_be_few),
    Mutant(name="reveals after the answer", rule="member 3: none once it was answered", seed=32, plant=reveals_after_the_answer),
    Mutant(name="late report taken", rule="leader: none after close", seed=99, plant=late_report_taken),
    Mutant(name="silent members change the group", rule="leader: decoys at each step", seed=274, plant=silent_members_change_the_group),
    Mutant(name="no decoys", rule="differencing: by nobody or by a batch", seed=18, plant=no_decoys),
    Mutant(name="only the last sum counts", rule="differencing: all recent sums", seed=4, plant=only_the_last_sum_counts),
    Mutant(name="single decoys", rule="differencing: decoys come in batches", seed=18, plant=single_decoys),
    Mutant(name="answers two aggregates", rule="operator: one aggregate for each round", seed=0, plant=answers_two_aggregates),
    Mutant(name="answers again after a restart", rule="operator: the book is on disk", seed=15, plant=answers_again_after_a_restart),
    Mutant(name="says what it decrypted", rule="operator: yes or no, nothing else", seed=0, plant=says_what_it_decrypted),
    Mutant(name="checksum not checked", rule="packing: the checksum fits the sums", seed=9, plant=checksum_not_checked),
    Mutant(name="head-count not checked", rule="operator: the count is the aggregate's", seed=0, plant=head_count_not_checked),
    Mutant(name="units not checked", rule="leader: only units are summed", seed=12, plant=units_not_checked),
    Mutant(name="randomiser stays in the pool", rule="pool 1: write-ahead delete", seed=0, plant=randomiser_stays_in_the_pool),
    Mutant(name="believes a backup", rule="pool 3: a restored pool is thrown away", seed=4, plant=believes_a_backup),
    Mutant(name="audit looks at the root alone", rule="audit 1: the product, bit for bit", seed=17, plant=audit_looks_at_the_root_alone),
)
