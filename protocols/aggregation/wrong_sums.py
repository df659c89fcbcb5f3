"""What a third party computes again from a leader's signed answer in an audit: whether the sum that it stands by is one. Pure.

The auditor knows more (`audit.judge`): its own receipt, and which aggregate the operator has answered. What is left out here cannot be
held against a leader by somebody who was not there. The call binds everything: it is signed by the leader and names epoch and key, so
nobody can show an honest answer beside another epoch and call it wrong. The smallest group is bound by nothing, since the operator may
say another one in the same epoch, so it is not judged by. The words go to the operator, and name nobody who took part.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Final

from msgspec import structs

from protocols.aggregation.audit import BROKEN, audit
from protocols.aggregation.calls import announcement, checked_key, group_of
from protocols.aggregation.group import RoundRefused
from protocols.aggregation.messages import AuditAnswer, Drops, SealRefused
from protocols.aggregation.packing import ValuesRefused
from protocols.aggregation.paillier import Encryptor, KeyRefused, PublicKey
from protocols.messages import EpochNotice, KeyCard, RoundCall

BITS_MIN: Final = 1024
"""A key that is too short for a household is the operator's fault, and no excuse for a leader."""

GROUP_MIN: Final = 2

SMALL_COMB: Final = (5, 1)
"""(teeth, tables): one product is corrected, so a table that is quickly made serves best."""


def wrong_sum(
    answer: AuditAnswer, call: RoundCall, epoch: EpochNotice, card: KeyCard, drops: Collection[Drops] = ()
) -> str | None:
    """Why the leader's answer is not the honest sum of the round that it called, or None.

    The caller has verified that the leader signed answer, call and drop lists, and the operator epoch and card. None also where these do
    not belong together.
    """
    try:
        key, layout = checked_key(card, min_bits=BITS_MIN)
        announce = announcement(epoch.epoch, call, answer.leader)
        aggregate, transcript = answer.shown
        if call.key_id != key.key_id or transcript.announce.round_name != call.round_name:
            return None
        if transcript.announce != announce:
            return f"round {call.round_name}: another announcement than the one that was called"
        if any(not drop.left_out <= set(transcript.left_out) for drop in drops if drop.round_name == call.round_name):
            return f"round {call.round_name}: somebody is summed whom a drop list left out"
        group = group_of(structs.replace(epoch, members_min=GROUP_MIN), key, layout)
        wrong = audit(group, _encryptor(key), transcript, aggregate)
    except (KeyRefused, ValuesRefused, RoundRefused, SealRefused):
        return None
    if wrong is None:
        return None
    return f"round {call.round_name}: {BROKEN if wrong.startswith(BROKEN) else wrong}"


@lru_cache(maxsize=2)
def _encryptor(key: PublicKey) -> Encryptor:
    return Encryptor(key, teeth=SMALL_COMB[0], tables=SMALL_COMB[1])
