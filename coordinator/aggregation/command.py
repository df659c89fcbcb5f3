"""`commonwatt-coordinator proofs`: what was proven against whom, verified again as it is printed; and `settle`: what members declare, held
against the operator's own meter. A shell."""

from __future__ import annotations

import argparse
import csv
import math
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from coordinator import store as tables
from coordinator.aggregation.convictions import Conviction, of_declarations, unsound
from coordinator.aggregation.office import conviction_row, convictions, declarations, openings
from coordinator.aggregation.settling import settle as settled
from coordinator.assembly import beside, open_store, read_verifier
from coordinator.config import load_config
from coordinator.errors import ConfigError, StoreError
from protocols.aggregation.evidence import Notice
from protocols.clock import SystemClock
from protocols.election.values import Epoch
from protocols.errors import Refusal
from protocols.messages import AdherenceReport
from protocols.reputation import Reputation, trusted_frac

EXIT_DONE, EXIT_NO = 0, 1
METER_COLUMNS = ("node", "start_s", "duration_s", "net_import_w")


class _Kept(Struct):
    """What is needed here of what the desk keeps."""

    epoch: Epoch | None = None


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


def settle(arguments: argparse.Namespace) -> int:
    """Compare what was opened with the meter; with `--convict`, record who has declared what is not so."""
    config = beside(load_config(arguments.config), arguments.config.resolve().parent)
    readings = read_meter(arguments.meter)
    verifier = read_verifier(config)
    store, now_s = open_store(config), SystemClock().now_s()
    try:
        declared: dict[str, list[tuple[AdherenceReport, Notice]]] = {}
        for notice in declarations(store):
            try:
                report = verifier.read(notice.message)
            except Refusal:
                continue
            assert isinstance(report, AdherenceReport), "the store keeps these alone under this kind"
            declared.setdefault(report.sender, []).append((report, notice))
        reports = {name: [report for report, _ in said] for name, said in declared.items()}
        ratings_w = {node.name: node.import_rating_w for node in config.nodes}
        findings = settled(openings(store), reports, readings, ratings_w)
        kept = store.remembered("aggregation")
        epoch = None if kept is None else msgspec.json.decode(kept, type=_Kept).epoch
        known = {conviction.accused for conviction in convictions(store) if conviction.ground == "declaration"}
        for number, finding in enumerate(findings):
            if arguments.convict and finding.disproved and epoch is not None and finding.member not in known:
                notices = [notice for _, notice in declared[finding.member]]
                conviction = of_declarations(epoch, finding.member, finding.words, notices, settled_s=now_s)
                row = conviction_row(conviction, next_sequence=int(now_s * 1000.0) + number, received_s=now_s)
                store.add(tables.messages, row)
        store.flush(now_s)
    except msgspec.DecodeError as error:
        raise StoreError(f"store: what was opened or declared cannot be read: {error}") from error
    finally:
        store.close()
    if arguments.json:
        rows = [{**msgspec.structs.asdict(finding), "disproved": finding.disproved} for finding in findings]
        sys.stdout.write(msgspec.json.encode({"findings": rows}).decode() + "\n")
    else:
        marks = {True: "DISPROVED", False: "stands"}
        lines = [f"{finding.member}  {marks[finding.disproved]}: {finding.words}" for finding in findings]
        sys.stdout.write("\n".join(lines or ["no opened report has both a declaration and a reading"]) + "\n")
    return EXIT_NO if any(finding.disproved for finding in findings) else EXIT_DONE


def read_meter(path: Path) -> dict[tuple[str, float, float], float]:
    """Mean net imports by (node, start, duration) from a table. Raises `ConfigError` with line and column."""
    readings = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            table = csv.DictReader(file)
            if table.fieldnames is None or set(METER_COLUMNS) - set(table.fieldnames):
                raise ConfigError(f"{path}: line 1: expected columns {','.join(METER_COLUMNS)}")
            for row in table:
                start_s, duration_s, net_import_w = (_number(row[name], path, table.line_num, name) for name in METER_COLUMNS[1:])
                readings[row["node"], start_s, duration_s] = net_import_w
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: {error}") from error
    return readings


def _number(text: str | None, path: Path, line: int, column: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"{path}: line {line} column {column}: expected a finite number, got {text!r}")
    return value


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
