"""`commonwatt-coordinator proofs`: what was proven against whom, verified again as it is printed. A shell."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct

from coordinator.aggregation.convictions import Conviction, unsound
from coordinator.aggregation.office import convictions
from coordinator.assembly import beside, open_store
from coordinator.config import load_config
from coordinator.errors import StoreError
from protocols.reputation import Reputation, trusted_frac

EXIT_DONE, EXIT_NO = 0, 1


class Shown(Struct, frozen=True, kw_only=True):
    """One conviction as it is printed; `problem` says why the record proves nothing, null where it was verified again."""

    accused: str
    round_name: str
    term: int
    time_s: float
    words: str
    ground: str
    evidence: str
    epoch: int
    by: tuple[str, ...]
    problem: str | None


def proofs(arguments: argparse.Namespace) -> int:
    """Print every conviction on record, and what is left of the reputation of who was convicted."""
    config = beside(load_config(arguments.config), arguments.config.resolve().parent)
    store = open_store(config)
    try:
        found = [shown(conviction, config.identity.community) for conviction in convictions(store)]
        kept = store.remembered("reputations")
        reputations = {} if kept is None else msgspec.json.decode(kept, type=dict[str, Reputation])
    except msgspec.DecodeError as error:
        raise StoreError(f"store: a record of convictions or reputations cannot be read: {error}") from error
    finally:
        store.close()
    trusted = {one.accused: trusted_frac(reputations[one.accused]) for one in found if one.accused in reputations}
    if arguments.json:
        document: dict[str, Any] = {"convictions": found, "reputations": trusted}
        sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
    else:
        sys.stdout.write("".join(f"{line}\n" for line in _lines(found, trusted)))
    return EXIT_NO if any(one.problem is not None for one in found) else EXIT_DONE


def shown(conviction: Conviction, community: str) -> Shown:
    """The record, verified again."""
    return Shown(
        accused=conviction.accused,
        round_name=conviction.round_name,
        term=conviction.term,
        time_s=conviction.time_s,
        words=conviction.words,
        ground=conviction.ground,
        evidence=conviction.evidence,
        epoch=conviction.epoch.number,
        by=tuple(notice.topic.split("/")[4] for notice in conviction.notices),
        problem=unsound(conviction, community),
    )


def _lines(found: list[Shown], trusted: dict[str, float]) -> list[str]:
    if not found:
        return ["nothing was proven against anybody"]
    lines = []
    for one in found:
        when = datetime.fromtimestamp(one.time_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        by = f"verified by {len(one.by)} members" if one.ground == "verdicts" else "over its own signature"
        held = "verified again" if one.problem is None else f"PROVES NOTHING: {one.problem}"
        lines += [
            f"{one.accused}  round {one.round_name}, term {one.term}, {when}: {one.words}",
            f"    {by}, epoch {one.epoch}; evidence {one.evidence}; {held}",
        ]
    lines += [f"{name}: reputation {value:.2f}" for name, value in sorted(trusted.items())]
    return lines
