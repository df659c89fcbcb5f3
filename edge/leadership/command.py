"""`commonwatt-edge proofs`: what this home holds that its leaders and its operator have signed, and what of it contradicts. A shell."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from edge.errors import ConfigurationError

if TYPE_CHECKING:
    from protocols.aggregation.evidence import Exhibit

EXIT_DONE, EXIT_NO = 0, 1


class Shown(Struct, frozen=True, kw_only=True):
    """One proof as it is printed."""

    author: str
    round_name: str
    words: str
    evidence: str


def add_proofs_parser(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "proofs",
        help="what leaders and operator have signed to this home, and what of it contradicts",
        description="Read the evidence on this home's disk and verify it. Exit status 1 where somebody has contradicted itself.",
    )
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the configuration, a TOML file")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=_proofs)


def _proofs(args: argparse.Namespace) -> int:
    from edge.config import load_config
    from edge.leadership.evidence import EvidenceLog
    from protocols.aggregation.evidence import proofs
    from protocols.keys import load_public_key

    config, folder = load_config(args.config), args.config.resolve().parent
    if not config.leadership.enabled:
        raise ConfigurationError(f"{args.config}: leadership is not enabled, so nothing is held - at $.leadership.enabled")
    log = EvidenceLog(folder / config.leadership.folder / "evidence", keep_s=config.aggregation.keep_openings_s)
    exhibits = list(log.exhibits())
    operator = [load_public_key(folder / file) for file in config.identity.coordinator_keys]
    found: dict[tuple[str, str, str], Shown] = {}
    for proof in proofs(exhibits, config.identity.community, operator):
        shown = Shown(author=proof.author, round_name=proof.round_name, words=proof.words, evidence=proof.digest)
        found.setdefault((proof.author, proof.round_name, proof.words), shown)
    held = Counter(map(_kind, exhibits))
    if args.json:
        document = {"held": dict(sorted(held.items())), "proofs": list(found.values())}
        sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
    else:
        sys.stdout.write("".join(f"{line}\n" for line in _lines(held, list(found.values()))))
    return EXIT_NO if found else EXIT_DONE


def _kind(exhibit: Exhibit) -> str:
    """What is held, in a word for people."""
    from protocols.aggregation.evidence import Notice, SignedAnswer, SignedReceipt, TwoCertificates

    match exhibit:
        case SignedReceipt():
            return "receipts"
        case SignedAnswer():
            return "answers in audits"
        case TwoCertificates():
            return "pairs of certificates"
        case Notice():
            *_, writer, kind = exhibit.topic.split("/")
            spoken = {"epoch": "epochs", "key": "keys", "call": "calls and drop lists"}
            return spoken.get(kind, "answers of the operator" if writer == "coordinator" else kind)


def _lines(held: Counter[str], found: list[Shown]) -> list[str]:
    lines = ["held: " + (", ".join(f"{count} {kind}" for kind, count in sorted(held.items())) or "nothing")]
    for proof in found:
        where = f", round {proof.round_name}" if proof.round_name else ""
        lines += [f"{proof.author}{where}: {proof.words}", f"    evidence {proof.evidence}"]
    return lines if found else [*lines, "nothing of it contradicts"]
