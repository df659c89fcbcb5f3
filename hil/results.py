"""What a run leaves for machines: `results.json`. Nothing in it depends on the wall clock, so equal seeds give equal bytes in `sim`.

`checkers` is one flat list over both runs of the day; figures are those of the report's tables.
"""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path

import msgspec
from msgspec import Struct

from hil.checkers import CheckResult
from hil.faults import DrawnRate, Fault
from hil.figures import HomeFigures, RunFigures
from hil.market_ledger import MarketReport
from hil.scenario import LimitsSection

UNCOORDINATED = "uncoordinated"
WITH_ENVELOPES = "with_envelopes"
RUN_TITLES = {UNCOORDINATED: "Uncoordinated", WITH_ENVELOPES: "With envelopes"}

VERSIONED = ("commonwatt", "numpy", "scipy", "power-grid-model", "piqp", "pymodbus", "paho-mqtt", "msgspec", "cryptography")


class RunSummary(Struct, frozen=True, kw_only=True):
    """One of the two runs of the day."""

    figures: RunFigures
    homes: tuple[HomeFigures, ...]
    counters: dict[str, int]
    market: MarketReport | None = None


class CheckerEntry(Struct, frozen=True, kw_only=True):
    """One checker of one run."""

    run: str
    name: str
    checks: int
    violations: int
    excused: dict[str, int]
    details: tuple[str, ...]


class Results(Struct, frozen=True, kw_only=True):
    """Both runs of one scenario."""

    scenario: str
    title: str
    mode: str
    seed: int
    commit: str
    versions: dict[str, str]
    start_s: float
    utc_offset_s: float
    duration_h: float
    homes: int
    currency: str
    limits: LimitsSection
    fault_rates: tuple[DrawnRate, ...]
    faults: tuple[Fault, ...]
    passed: bool
    verdict: tuple[str, ...]
    runs: dict[str, RunSummary]
    checkers: tuple[CheckerEntry, ...]


def checker_entries(run: str, results: list[CheckResult]) -> list[CheckerEntry]:
    """The checkers of one run as they go into the flat list."""
    return [
        CheckerEntry(
            run=run,
            name=result.name,
            checks=result.checks,
            violations=result.violations,
            excused=result.excused,
            details=result.details,
        )
        for result in results
    ]


LEAST_ON_CONTROL_FRAC = 0.9
"""Below this share of time on a control, the report says that homes were on their default."""


def verdict(runs: dict[str, RunSummary], checkers: list[CheckerEntry], limits: LimitsSection) -> tuple[str, ...]:
    """The day in a few sentences, for the head of the report and the end of a terminal run."""
    sentences = []
    free, held = runs.get(UNCOORDINATED), runs.get(WITH_ENVELOPES)
    if free is not None:
        sentences.append(f"Uncoordinated, {_network_words(free.figures, limits)}.")
    if held is not None:
        sentences.append(f"With envelopes, {_network_words(held.figures, limits)}.")
        envelope = next((entry for entry in checkers if entry.run == WITH_ENVELOPES and entry.name == "envelope_held"), None)
        if envelope is not None and envelope.checks > 0:
            excused = sum(envelope.excused.values())
            answerable = envelope.checks - excused
            kept = answerable - envelope.violations
            words = f"Envelopes were kept at the meter in {kept:,} of {answerable:,} home intervals"
            if excused > 0:
                words += f"; {excused:,} more were broken by essential load alone"
            sentences.append(words + ".")
        counted, on_control = held.counters.get("home_cycles", 0), held.counters.get("home_cycles_on_control", 0)
        if on_control < LEAST_ON_CONTROL_FRAC * counted:
            share = 100.0 * (1.0 - on_control / counted)
            sentences.append(f"Homes were on their default for {share:.0f} % of the time: no control reached them.")
    if free is not None and held is not None:
        sentences.append(
            f"Curtailment went from {100.0 * free.figures.curtailed_frac:.1f} % to {100.0 * held.figures.curtailed_frac:.1f} % "
            f"of the available solar energy."
        )
    broken = sorted({f"{entry.name} ({entry.run.replace('_', ' ')})" for entry in checkers if entry.violations > 0})
    sentences.append("No checker was violated." if not broken else f"Violated: {', '.join(broken)}.")
    return tuple(sentences)


def write_results(results: Results, path: Path) -> None:
    """Write canonical, indented JSON."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")


def commit_of(folder: Path) -> str:
    """Commit of the sources in `folder`, `-dirty` where they differ from it, `unknown` outside a repository."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=10.0,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def versions() -> dict[str, str]:
    """Versions of Python and of what decides the numbers."""
    found = {"python": platform.python_version()}
    for name in VERSIONED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def _network_words(figures: RunFigures, limits: LimitsSection) -> str:
    wrongs = []
    if figures.voltage_outside_min > 0.0:
        too_high = figures.voltage_max_v > limits.voltage_max_v
        too_low = figures.voltage_min_v < limits.voltage_min_v
        reached = " and ".join(
            words
            for words, there in (
                (f"{figures.voltage_max_v:.1f} V (limit {limits.voltage_max_v:g})", too_high),
                (f"{figures.voltage_min_v:.1f} V (limit {limits.voltage_min_v:g})", too_low),
            )
            if there
        )
        wrongs.append(f"voltage reached {reached} and was outside for {figures.voltage_outside_min:.0f} min")
    if figures.transformer_overload_min > 0.0:
        wrongs.append(
            f"the transformer reached {100.0 * figures.transformer_peak_frac:.0f} % and was overloaded for "
            f"{figures.transformer_overload_min:.0f} min"
        )
    if figures.line_overload_min > 0.0:
        wrongs.append(
            f"a line reached {100.0 * figures.line_peak_frac:.0f} % and was overloaded for {figures.line_overload_min:.0f} min"
        )
    if wrongs:
        return "; ".join(wrongs)
    return (
        f"the network stayed inside its limits all day (voltage {figures.voltage_min_v:.1f} to {figures.voltage_max_v:.1f} V, "
        f"transformer at most {100.0 * figures.transformer_peak_frac:.0f} %)"
    )
