"""A member's part of a round: report once, and help to recover from missing neighbours without being unmasked itself.

The rules, each with its own refusal:

1. An announcement must be for the operator's key of this epoch, name the member and only registered members, and be at least
   `members_min` strong. Its round must be newer than every one that was answered.
2. One round, one report: if the same announcement comes again, the same bytes go out again, because two reports with the same pads
   would reveal their difference. The same round under another announcement is refused, and its pads would be others.
3. Seeds are revealed only for an announced round in which the member reported, only towards those left out, never when the member itself
   is left out, never below `members_min` survivors, and only for a list that contains every earlier list of the round. Decoys come in
   batches, since a few of them hide nobody but their own group, and their number is bounded. Once the operator has answered the round,
   no seed leaves any more.
4. A member that lost its memory sits out every round that it may have answered before (`check_time`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct

from protocols.aggregation import packing
from protocols.aggregation.differencing import BATCH
from protocols.aggregation.group import Group, RoundRefused
from protocols.aggregation.messages import Announce, Drops, Receipt, announce_digest, report_digest, seal, sign_report, sign_reveal
from protocols.aggregation.packing import Slots, Values
from protocols.aggregation.pads import PadGraph, PadKeys, add_pads
from protocols.aggregation.paillier import Encryptor, to_bytes

DECOYS_MAX: Final = 16
ROUND_MAX_S: Final = 1800.0
"""No round is announced longer before it closes."""


class Randomiser(Struct, frozen=True):
    """A randomiser that was computed ahead, and the seed that opens it. Used for one ciphertext, then never again."""

    seed: bytes
    value: int

    def __repr__(self) -> str:
        return "Randomiser(...)"

    def __reduce__(self) -> str:
        raise TypeError("a randomiser is secret and is not serialised")


class Opening(Struct, frozen=True, kw_only=True):
    """What a member discloses to the settlement body about one sampled round: enough to compute its report again, bit for bit."""

    announce: Announce
    member: str
    values: tuple[int, ...]
    exponent_seeds: tuple[bytes, ...]
    pad_seeds: tuple[tuple[str, bytes], ...]

    def __repr__(self) -> str:
        return f"Opening({self.announce.round_name}, {self.member})"

    def __reduce__(self) -> str:
        raise TypeError("an opening is secret and is not pickled: its keeper encodes it")


class _Round(Struct):
    announce: Announce
    sealed: bytes
    digest: bytes
    opening: Opening
    left_out: frozenset[str] = frozenset()
    ended: bool = False


class Member:
    """One member across rounds. It keeps the newest round only; openings are handed to the caller to keep until settlement."""

    def __init__(self, name: str, group: Group, signing_key: Ed25519PrivateKey, pad_keys: PadKeys, encryptor: Encryptor) -> None:
        self.name = name
        self._group = group
        self._signing_key = signing_key
        self._pad_keys = pad_keys
        self._encryptor = encryptor
        self._round: _Round | None = None

    def __repr__(self) -> str:
        return f"Member({self.name})"

    @property
    def newest(self) -> tuple[int, int]:
        """(term, number) of the newest round that was answered, for the caller's disk; (0, 0) before the first."""
        return (0, 0) if self._round is None else round_order(self._round.announce.round_name)

    @property
    def receipt(self) -> Receipt | None:
        """The receipt that the leader owes for the newest report, None before the first."""
        current = self._round
        return None if current is None else Receipt(
            round_name=current.announce.round_name, member=self.name, digest=current.digest.hex()
        )

    def report(
        self, announce: Announce, values: npt.ArrayLike, randomisers: Sequence[Randomiser], *, newest: tuple[int, int] = (0, 0)
    ) -> tuple[bytes, Opening]:
        """The sealed report for the leader, and what opens it. `newest` is what the disk remembers of `self.newest`.

        Needs one fresh randomiser for each ciphertext. A repeated announcement gives the stored bytes and leaves the randomisers unused.
        """
        known = self._round
        if known is not None and known.announce == announce:
            return known.sealed, known.opening
        self._check_announce(announce, max(newest, self.newest))
        if len(randomisers) != self._group.ciphertexts:
            raise ValueError(f"{len(randomisers)} randomisers: {self._group.ciphertexts} are needed")
        graph = PadGraph(announce.roster, bytes.fromhex(announce.beacon))
        context = announce_digest(announce)
        pad_seeds = tuple((peer, self._seed(peer, context)) for peer in graph.neighbours(self.name))
        plaintexts, exact = _plaintexts(self._group, announce, self.name, values, pad_seeds)
        key = self._group.key
        ciphertexts = tuple(
            to_bytes(key, self._encryptor.combine(plaintext, randomiser.value))
            for plaintext, randomiser in zip(plaintexts, randomisers, strict=True)
        )
        report = sign_report(self._signing_key, announce.round_name, self.name, ciphertexts)
        opening = Opening(
            announce=announce,
            member=self.name,
            values=tuple(exact),
            exponent_seeds=tuple(randomiser.seed for randomiser in randomisers),
            pad_seeds=pad_seeds,
        )
        sealed = seal(report, self._group.card(announce.leader).envelope_key)
        self._round = _Round(
            announce=announce,
            sealed=sealed,
            digest=report_digest(announce.round_name, self.name, ciphertexts),
            opening=opening,
        )
        return sealed, opening

    def reveal(self, drops: Drops) -> bytes | None:
        """The sealed pad seeds towards those newly known to be left out; None where the member pads with none of them."""
        current = self._round
        if current is None or current.announce.round_name != drops.round_name:
            raise RoundRefused(f"no report was made in round {drops.round_name}")
        self._check_drops(current, drops)
        current.left_out = drops.left_out
        seeds = tuple((peer, seed) for peer, seed in current.opening.pad_seeds if peer in drops.left_out)
        if not seeds:
            return None
        reveal = sign_reveal(self._signing_key, drops.round_name, self.name, seeds)
        return seal(reveal, self._group.card(current.announce.leader).envelope_key)

    def end(self, round_name: str) -> None:
        """The operator has answered this round, whatever it said: what is asked about it from now on serves no sum."""
        if self._round is not None and self._round.announce.round_name == round_name:
            self._round.ended = True

    def _seed(self, peer: str, context: bytes) -> bytes:
        return self._pad_keys.seed(peer, self._group.card(peer).pad_key, context)

    def _check_announce(self, announce: Announce, newest: tuple[int, int]) -> None:
        group = self._group
        if announce.key_id != group.key.key_id:
            raise RoundRefused(f"round {announce.round_name} is under key {announce.key_id}, this epoch's is {group.key.key_id}")
        if len(set(announce.roster)) != len(announce.roster):
            raise RoundRefused("the roster names a member twice")
        if not group.members_min <= len(announce.roster) <= group.layout.members_max:
            raise RoundRefused(
                f"roster of {len(announce.roster)}: {group.members_min} to {group.layout.members_max} members make a round"
            )
        if self.name not in announce.roster:
            raise RoundRefused("the roster does not name this member")
        for name in (*announce.roster, announce.leader):
            group.card(name)
        if round_order(announce.round_name) <= newest:
            raise RoundRefused(f"round {announce.round_name} is not newer than round {newest[0]}:{newest[1]}, which was answered")

    def _check_drops(self, current: _Round, drops: Drops) -> None:
        left_out = drops.left_out
        if drops.leader != current.announce.leader:
            raise RoundRefused(f"drop list by {drops.leader!r}: the round is led by {current.announce.leader!r}")
        if current.ended:
            raise RoundRefused(f"round {drops.round_name} was answered: no seeds leave any more")
        if not (len(drops.decoys) == 0 or BATCH <= len(drops.decoys) <= DECOYS_MAX):
            raise RoundRefused(f"{len(drops.decoys)} decoys: none, or {BATCH} to {DECOYS_MAX}")
        if not left_out <= set(current.announce.roster):
            raise RoundRefused("the drop list names somebody outside the roster")
        if self.name in left_out:
            raise RoundRefused("this member reported and is on the drop list")
        if not current.left_out <= left_out:
            raise RoundRefused("the drop list does not contain an earlier one of the same round")
        survivors = len(current.announce.roster) - len(left_out)
        if survivors < self._group.members_min:
            raise RoundRefused(f"{survivors} survivors: below the smallest group of {self._group.members_min}")


def check_time(announce: Announce, now_s: float, *, forgot_s: float | None = None) -> None:
    """Raise `RoundRefused` unless the round closes within `ROUND_MAX_S` from now.

    `forgot_s` is when this member lost its memory, if it did: it then also sits out every round that closes before `ROUND_MAX_S` after
    that, since a round that it answered before must have closed by then.
    """
    ahead_s = announce.closes_s - now_s
    if not 0.0 < ahead_s <= ROUND_MAX_S:
        raise RoundRefused(f"round {announce.round_name} closes in {ahead_s:.0f} s: between 0 and {ROUND_MAX_S:.0f} s are allowed")
    if forgot_s is not None and announce.closes_s <= forgot_s + ROUND_MAX_S:
        raise RoundRefused(f"round {announce.round_name} may have been answered before this member lost its memory")


def round_order(round_name: str) -> tuple[int, int]:
    """(term, number): rounds are ordered by the leader's term, then by number."""
    term, number = round_name.split(":")
    return int(term), int(number)


def _plaintexts(
    group: Group, announce: Announce, member: str, values: npt.ArrayLike, pad_seeds: Sequence[tuple[str, bytes]]
) -> tuple[list[int], list[int]]:
    """(packed and padded plaintexts, the values as exact integers)."""
    alpha: Values = packing.checksum_coefficients(group.layout, bytes.fromhex(announce.beacon))
    slots: Slots = packing.encode(group.layout, values, alpha)
    exact = [int(value) for value in packing.centred(group.layout, slots[: group.layout.values])]
    return packing.pack(add_pads(group.layout, slots, member, pad_seeds), group.chunk), exact
