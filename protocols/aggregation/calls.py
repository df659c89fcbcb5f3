"""Between what a leader sends and what everybody computes from it: rosters as bit masks over the seats, and the beacon of a round.

The beacon is SHA-256 over the epoch's seed, the newest acknowledgement of the operator and everything that the call says about the
round's meaning. So the leader does not choose it; and since the checksum of every report follows from it, a sum that is handed to the
operator as something else than what the members were asked for does not open.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from functools import lru_cache
from typing import Final

from protocols.aggregation.group import Group, MemberCard, RoundRefused, check_card
from protocols.aggregation.messages import Announce
from protocols.aggregation.packing import Layout
from protocols.aggregation.paillier import MIN_MODULUS_BITS, PublicKey, public_key
from protocols.election.rules import public_key_of
from protocols.election.values import Epoch
from protocols.messages import AggregateNotice, EpochNotice, KeyCard, RoundCall

NOTHING_ANSWERED: Final = "0" * 64
"""What a call names as the newest acknowledgement where there is none."""


def seat_mask(epoch: Epoch, names: Collection[str]) -> str:
    """The members as a bit mask over the seats of the epoch, in hexadecimal."""
    return format(sum(1 << index for index, seat in enumerate(epoch.seats) if seat.name in names), "x")


def seated(epoch: Epoch, mask: str) -> tuple[str, ...]:
    """Inverse of `seat_mask`, in the order of the seats; raises `RoundRefused` for a bit without a seat."""
    bits = int(mask, 16)
    if bits >> len(epoch.seats):
        raise RoundRefused(f"the roster names a seat beyond the {len(epoch.seats)} of epoch {epoch.number}")
    return tuple(seat.name for index, seat in enumerate(epoch.seats) if bits >> index & 1)


def beacon(epoch: Epoch, said: RoundCall | AggregateNotice) -> str:
    """The public randomness of a round; the same for members and operator, or the sum does not open."""
    name = said.round_name if isinstance(said, RoundCall) else said.aggregate.round_name
    text = (
        f"commonwatt/1 beacon\0{epoch.seed}\0{epoch.number}\0{name}\0{said.previous}\0{said.content.value}\0{said.start_s!r}\0"
        f"{said.step_s!r}\0{said.iteration}"
    )
    return hashlib.sha256(text.encode()).hexdigest()


def announcement(epoch: Epoch, call: RoundCall, leader: str) -> Announce:
    """What a call by this leader announces; raises `RoundRefused` for another epoch."""
    if call.epoch != epoch.number:
        raise RoundRefused(f"round {call.round_name} is of epoch {call.epoch}, this is epoch {epoch.number}")
    return Announce(
        round_name=call.round_name,
        leader=leader,
        key_id=call.key_id,
        roster=seated(epoch, call.seats),
        beacon=beacon(epoch, call),
        closes_s=call.closes_s,
    )


def checked_key(card: KeyCard, *, min_bits: int = MIN_MODULUS_BITS) -> tuple[PublicKey, Layout]:
    """Key and layout of a key card; raises `KeyRefused` or `ValuesRefused` with the check that failed."""
    key = _checked_once(int(card.n, 16), int(card.x, 16), min_bits)
    return key, Layout(card.values, card.pad_bits, card.members_max)


def group_of(notice: EpochNotice, key: PublicKey, layout: Layout, *, members_min: int = 0) -> Group:
    """The group that an epoch and a key make; `members_min` is what the caller demands whatever the epoch says.

    Members without a card, or with one that nobody can use, sit in the epoch and take part in no round: everybody leaves out the same.
    """
    seats = {seat.name: seat for seat in notice.epoch.seats}
    cards = {}
    for said in notice.cards:
        if said.name in seats:
            card = MemberCard(
                said.name, public_key_of(seats[said.name]), bytes.fromhex(said.pad_key), bytes.fromhex(said.envelope_key)
            )
            if card_is_usable(card):
                cards[said.name] = card
    return Group(cards, key, layout, max(notice.members_min, members_min))


def card_is_usable(card: MemberCard) -> bool:
    """Whether `check_card` finds nothing."""
    try:
        check_card(card)
    except RoundRefused:
        return False
    return True


@lru_cache(maxsize=8)
def _checked_once(n: int, x: int, min_bits: int) -> PublicKey:
    """Primality takes a while and a card comes again with every connection; the answer for the same numbers never changes."""
    return public_key(n, x, min_bits=min_bits)
