"""A scenario: one day of one feeder, as one TOML file decoded once into one frozen value.

The sections mirror the bench: which network and homes, which day, how the time is stepped, what the coordinator is told, tariffs,
faults, and the limits that the checkers watch. Paths are relative to the scenario file; `{data}` at their head stands for the
folder of public data sets that `--data` names. Every number is bounded on both sides and relations are checked; nothing is
corrected silently, and whatever is wrong is one line: file, what, expected, got, where.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from coordinator.market.settings import HeldName
from hil.community_scenario import CommunitySection
from hil.errors import ScenarioError
from protocols.documents import DocumentRefused, decode_toml
from protocols.errors import one_line

DATA_MARK = "{data}"
SHIPPED = Path(__file__).parent / "scenarios"

Hours = Annotated[float, Meta(ge=0.0, le=24.0 * 14)]
StepS = Annotated[float, Meta(ge=0.5, le=300.0)]
PeriodS = Annotated[float, Meta(ge=10.0, le=7200.0)]
Fraction = Annotated[float, Meta(ge=0.0, le=1.0)]
Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$")]


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every section has: unknown keys are refused."""


class NetworkSection(Section, frozen=True, kw_only=True):
    """The feeder's tables, and what the medium-voltage side does over the day."""

    folder: str
    source_voltage_pu: Annotated[float, Meta(ge=0.8, le=1.2)] | None = None


class HomesSection(Section, frozen=True, kw_only=True):
    """Where the homes come from: `street` is made by the bench itself, `victoria` is metered homes from public data.

    `seed` draws the weather, people and cars of the day; the seed of the scenario draws the faults. `sky` is imposed on the street.
    """

    source: Literal["street", "victoria"]
    folder: str | None = None
    seed: Annotated[int, Meta(ge=0, lt=2**32)] = 1
    sky: Literal["clear", "broken", "overcast"] | None = "broken"
    history_days: Annotated[int, Meta(ge=0, le=60)] = 28


class DaySection(Section, frozen=True, kw_only=True):
    """`start` carries the offset of local time from UTC, which tariffs and people go by; no daylight saving within a run."""

    start: dt.datetime
    duration_h: Annotated[float, Meta(gt=0.0, le=24.0 * 14)] = 24.0

    @property
    def start_s(self) -> float:
        return self.start.timestamp()

    @property
    def utc_offset_s(self) -> float:
        offset = self.start.utcoffset()
        assert offset is not None, "checked when the scenario was read"
        return offset.total_seconds()


class ControlSection(Section, frozen=True, kw_only=True):
    """How often an edge acts, and how finely the physics between two of its cycles is resolved."""

    cycle_s: StepS = 10.0
    plant_step_s: StepS = 5.0
    telemetry_period_s: PeriodS = 60.0
    schedule_period_s: PeriodS = 300.0
    schedule_step_s: PeriodS = 900.0


class CoordinatorSection(Section, frozen=True, kw_only=True):
    """What the operator of the feeder is told: rule, guarantee class, how often and how far ahead it publishes.

    The margins are kept back from the limits that the checkers watch: the operator does not know the voltage behind the source
    from minute to minute, nor the reactive power of a home, which it takes as `reactive_frac` of the active power.
    `mechanism` is what is negotiated inside the envelopes every `negotiation_period_s`; `doe` is envelopes alone.
    """

    rule: Literal["equal", "proportional-fair", "least-curtailment", "max-volume"] = "proportional-fair"
    guarantee: Literal["robust", "coincident"] = "robust"
    period_s: PeriodS = 300.0
    interval_s: PeriodS = 300.0
    horizon_s: Annotated[float, Meta(ge=300.0, le=48 * 3600.0)] = 7200.0
    voltage_margin_v: Annotated[float, Meta(ge=0.0, le=15.0)] = 0.0
    loading_margin_frac: Fraction = 0.0
    demand: Literal["rating", "forecast"] = "forecast"
    demand_step_w: Annotated[float, Meta(ge=1.0, le=50e3)] = 2500.0
    reactive_frac: Annotated[float, Meta(ge=-1.0, le=1.0)] = 0.2
    mechanism: Literal["doe"] | HeldName = "doe"
    negotiation_period_s: Annotated[float, Meta(ge=600.0, le=86400.0)] = 6 * 3600.0
    default_export_w: Annotated[float, Meta(ge=0.0, le=1e6)] = 1500.0
    default_import_w: Annotated[float, Meta(ge=0.0, le=1e6)] = 5000.0


class TariffSection(Section, frozen=True, kw_only=True):
    """What a kilowatt hour costs and earns: a tariff of `hil.households.tariffs` by name; without one, what comes with the homes."""

    name: Name | None = None
    currency: Annotated[str, Meta(max_length=8)] = "AUD"


class LimitsSection(Section, frozen=True, kw_only=True):
    """What the wires may do and how exactly an envelope must be kept.

    Envelope criteria: CSIP-AUS client test procedures section 2.3.1 (the lower of 4 % of rating and 100 W) and AS/NZS 4777.2
    (a soft limit is contained within 15 s). Voltages are line to neutral; 216 to 253 V is the band of AS 61000.3.100.
    """

    voltage_min_v: Annotated[float, Meta(ge=50.0, le=500.0)]
    voltage_max_v: Annotated[float, Meta(ge=50.0, le=500.0)]
    transformer_frac: Annotated[float, Meta(gt=0.0, le=3.0)] = 1.0
    line_frac: Annotated[float, Meta(gt=0.0, le=3.0)] = 1.0
    envelope_grace_s: Annotated[float, Meta(ge=0.0, le=300.0)] = 15.0
    envelope_tolerance_frac: Fraction = 0.04
    envelope_tolerance_w: Annotated[float, Meta(ge=0.0, le=10e3)] = 100.0


FaultKind = Literal[
    "modbus_timeout",
    "modbus_exception_6",
    "stuck_value",
    "not_implemented",
    "device_reboot",
    "second_master",
    "broker_restart",
    "coordinator_unreachable",
    "edge_power_cycle",
    "forged_command",
]


class FaultMixEntry(Section, frozen=True, kw_only=True):
    """How often a fault may happen. The rate of a run is itself drawn, uniformly below `max_per_day`.

    For broker and coordinator the rate is that of the feeder, for the others that of one home.
    """

    kind: FaultKind
    max_per_day: Annotated[float, Meta(gt=0.0, le=100.0)]
    shortest_s: Annotated[float, Meta(ge=0.0, le=86400.0)]
    longest_s: Annotated[float, Meta(ge=0.0, le=86400.0)]


class FaultsSection(Section, frozen=True, kw_only=True):
    """The shipped faults; the first `quiet_h` of the run are free of them, so that every home has once been in order."""

    enabled: bool = True
    quiet_h: Hours = 0.5
    mix: Annotated[tuple[FaultMixEntry, ...], Meta(max_length=20)] = ()


class Scenario(Section, frozen=True, kw_only=True):
    """One day of one feeder; see the module docstring."""

    name: Name
    title: Annotated[str, Meta(max_length=120)]
    seed: Annotated[int, Meta(ge=0, lt=2**32)] = 1
    network: NetworkSection
    homes: HomesSection
    day: DaySection
    control: ControlSection = ControlSection()
    coordinator: CoordinatorSection = CoordinatorSection()
    tariff: TariffSection = TariffSection()
    limits: LimitsSection
    faults: FaultsSection = FaultsSection()
    community: CommunitySection | None = None


class LoadedScenario(Struct, frozen=True, kw_only=True):
    """A scenario with its paths resolved: every one of them exists."""

    scenario: Scenario
    path: Path
    network_folder: Path
    homes_folder: Path | None


def load_scenario(name_or_path: str, *, data: Path | None = None) -> LoadedScenario:
    """Read a shipped scenario by name or any scenario by path; raises `ScenarioError` with one line."""
    path = find_scenario(name_or_path)
    scenario = decode_scenario(path.read_bytes(), str(path))

    def folder(key: str, text: str) -> Path:
        return _existing(path, key, _resolve(path, key, text, data))

    return LoadedScenario(
        scenario=scenario,
        path=path,
        network_folder=folder("network.folder", scenario.network.folder),
        homes_folder=None if scenario.homes.folder is None else folder("homes.folder", scenario.homes.folder),
    )


def find_scenario(name_or_path: str) -> Path:
    """Path of a scenario given by its shipped name (`street`) or by path."""
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = SHIPPED / f"{name_or_path}.toml"
    if not path.is_file():
        shipped = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.toml")))
        raise ScenarioError(f"{name_or_path}: no such scenario; expected a .toml file or one of: {shipped}")
    return path.resolve()


def decode_scenario(text: bytes, where: str) -> Scenario:
    """Decode and check one scenario."""
    try:
        scenario = decode_toml(text, Scenario)
    except DocumentRefused as refusal:
        raise ScenarioError(f"{where}: {refusal}") from refusal
    fault = _contradiction(scenario)
    if fault is not None:
        raise ScenarioError(f"{where}: {one_line(fault)}")
    return scenario


def _contradiction(scenario: Scenario) -> str | None:
    """The first relation between numbers that does not hold, in words."""
    control, coordinator, limits = scenario.control, scenario.coordinator, scenario.limits
    if scenario.day.start.tzinfo is None:
        return f"day.start ({scenario.day.start}) must carry its offset from UTC, like 2026-01-14T00:00:00+10:00 - at $.day.start"
    if (control.cycle_s / control.plant_step_s) % 1.0 != 0.0:
        return f"control.plant_step_s ({control.plant_step_s}) must divide cycle_s ({control.cycle_s}) - at $.control"
    for key, period_s in (
        ("control.telemetry_period_s", control.telemetry_period_s),
        ("control.schedule_period_s", control.schedule_period_s),
        ("coordinator.period_s", coordinator.period_s),
        ("coordinator.interval_s", coordinator.interval_s),
    ):
        if (period_s / control.cycle_s) % 1.0 != 0.0:
            return f"{key} ({period_s}) must be a multiple of control.cycle_s ({control.cycle_s}) - at $.{key}"
    if coordinator.horizon_s < 2.0 * coordinator.period_s:
        return (
            f"coordinator.horizon_s ({coordinator.horizon_s}) must be at least twice period_s ({coordinator.period_s}), "
            "so that one lost publication leaves no gap - at $.coordinator"
        )
    if limits.voltage_min_v >= limits.voltage_max_v:
        return (
            f"limits.voltage_min_v ({limits.voltage_min_v}) must be below voltage_max_v ({limits.voltage_max_v}) - at $.limits"
        )
    for entry in scenario.faults.mix:
        if entry.shortest_s > entry.longest_s:
            return f"faults.mix {entry.kind}: shortest_s ({entry.shortest_s}) exceeds longest_s ({entry.longest_s}) - at $.faults"
    if scenario.community is not None and coordinator.mechanism != "doe":
        return (
            f"coordinator.mechanism {coordinator.mechanism!r} asks homes by name, and community sums in secret "
            "- at $.coordinator.mechanism"
        )
    if scenario.homes.source == "victoria" and scenario.homes.folder is None:
        return "homes.source 'victoria' needs homes.folder, the folder of the data sets - at $.homes"
    return None


def _resolve(path: Path, key: str, text: str, data: Path | None) -> Path:
    if not text.startswith(DATA_MARK):
        return (path.parent / text).resolve()
    folder = Path("../shared/data") if data is None else data
    if not folder.is_dir():
        raise ScenarioError(
            f"{path}: {key} needs the public data sets, and {folder} is not a folder; give their folder with --data DIR "
            f"(it holds networks/ and profiles/; the README says which published sets they are and where to get them)"
        )
    return (folder / text.removeprefix(DATA_MARK).lstrip("/")).resolve()


def _existing(path: Path, key: str, folder: Path) -> Path:
    if not folder.is_dir():
        raise ScenarioError(f"{path}: {key} names {folder}, which is not a folder")
    return folder


def part_of_day(loaded: LoadedScenario, from_h: float | None, hours: float | None) -> LoadedScenario:
    """The scenario from so many hours into its day on, and only so many of them, to whole control cycles; by default all that is left."""
    scenario = loaded.scenario
    cycle_h = scenario.control.cycle_s / 3600.0
    begin_h = 0.0 if from_h is None else from_h
    if not 0.0 <= begin_h <= scenario.day.duration_h - cycle_h:
        raise ScenarioError(f"--from must be from 0 to {scenario.day.duration_h - cycle_h:.4f}, got {begin_h:g}")
    left_h = scenario.day.duration_h - begin_h
    lasting_h = left_h if hours is None else hours
    if not cycle_h <= lasting_h <= left_h:
        raise ScenarioError(f"--hours must be from {cycle_h:.4f} to {left_h:g}, got {lasting_h:g}")
    start = scenario.day.start + dt.timedelta(hours=round(begin_h / cycle_h) * cycle_h)
    day = msgspec.structs.replace(scenario.day, start=start, duration_h=round(lasting_h / cycle_h) * cycle_h)
    return msgspec.structs.replace(loaded, scenario=msgspec.structs.replace(scenario, day=day))
