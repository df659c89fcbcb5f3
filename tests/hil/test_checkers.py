"""A checker that finds nothing in a broken world is worth nothing: each one is shown a world that breaks its rule."""

import re
from pathlib import Path

import numpy as np
import pytest

import hil
from hil.checkers import EnergyConserved, EnvelopeHeld, NetworkLimits, P1NeverShed, SocWithinLimits
from hil.frames import Frame
from hil.report.page import CHECKER_WORDS
from hil.scenario import LimitsSection

LIMITS = LimitsSection(voltage_min_v=216.0, voltage_max_v=253.0)
HOMES = ("h1",)
STEP_S = 5.0


def frame(time_s: float, net_w: float = 0.0, p1_w: float = 0.0, import_w: float = 5e3, export_w: float = 5e3, **other: float) -> Frame:
    """A frame of one home in which everything is in order but what is said."""

    def one(value: float) -> np.ndarray:
        return np.array([value])

    return Frame(
        time_s=time_s,
        step_s=STEP_S,
        net_import_w=one(net_w),
        p1_w=one(p1_w),
        p1_wanted_w=one(other.get("p1_wanted_w", p1_w)),
        p2_w=one(0.0),
        p2_wanted_w=one(0.0),
        pv_w=one(0.0),
        pv_available_w=one(0.0),
        battery_w=one(net_w - p1_w + other.get("leak_w", 0.0)),
        ev_w=one(0.0),
        shiftable_w=one(0.0),
        soc_frac=one(other.get("soc_frac", 0.5)),
        import_limit_w=one(import_w),
        export_limit_w=one(export_w),
        voltage_min_v=one(other.get("low_v", 230.0)),
        voltage_max_v=one(other.get("high_v", 230.0)),
        transformer_frac=other.get("transformer_frac", 0.5),
        line_frac=other.get("line_frac", 0.5),
        source_w=net_w + 100.0,
        losses_w=100.0,
        edge_alive=np.array([True]),
    )


def envelope_checker() -> EnvelopeHeld:
    return EnvelopeHeld(HOMES, np.array([10e3]), LIMITS, 300.0)


@pytest.mark.parametrize(("steps_outside", "violations"), [(0, 0), (3, 0), (4, 1), (30, 1)])
def test_fifteen_seconds_outside_are_borne_and_not_one_step_more(steps_outside: int, violations: int) -> None:
    checker = envelope_checker()
    for step in range(60):
        checker.watch(frame(step * STEP_S, net_w=-5200.0 if 10 <= step < 10 + steps_outside else 0.0))
    result = checker.result()
    assert (result.checks, result.violations) == (1, violations)


def test_the_tolerance_is_the_lower_of_four_percent_and_a_hundred_watts() -> None:
    for rating_w, net_w, violations in ((10e3, -5099.0, 0), (10e3, -5101.0, 1), (1e3, -5041.0, 1), (1e3, -5039.0, 0)):
        checker = EnvelopeHeld(HOMES, np.array([rating_w]), LIMITS, 300.0)
        for step in range(60):
            checker.watch(frame(step * STEP_S, net_w=net_w))
        assert checker.result().violations == violations


def test_an_interval_that_essential_load_alone_breaks_is_excused_and_counted() -> None:
    checker = envelope_checker()
    for step in range(60):
        checker.watch(frame(step * STEP_S, net_w=6e3, p1_w=6e3))
    result = checker.result()
    assert (result.checks, result.violations, sum(result.excused.values())) == (1, 0, 1)


def test_an_exceedance_that_outlives_its_excuse_is_a_violation() -> None:
    checker = envelope_checker()
    for step in range(60):
        checker.watch(frame(step * STEP_S, net_w=6e3, p1_w=6e3 if step < 10 else 1e3))
    result = checker.result()
    assert result.violations == 1 and "h1" in result.details[0]


def test_a_home_without_an_envelope_is_not_checked() -> None:
    checker = envelope_checker()
    for step in range(60):
        checker.watch(frame(step * STEP_S, net_w=9e9, import_w=np.inf, export_w=np.inf))
    assert checker.result().checks == 0


def test_load_that_was_not_served_is_found() -> None:
    checker = P1NeverShed(HOMES)
    checker.watch(frame(0.0, net_w=400.0, p1_w=400.0, p1_wanted_w=500.0))
    assert checker.result().violations == 1


@pytest.mark.parametrize("leak_w", [1.0, -1.0, float("nan")])
def test_a_meter_that_is_not_the_sum_of_its_parts_is_found(leak_w: float) -> None:
    checker = EnergyConserved(HOMES)
    checker.watch(frame(0.0, net_w=400.0, leak_w=leak_w))
    assert checker.result().violations >= 1


def test_each_limit_of_the_network_is_watched() -> None:
    for broken in ({"low_v": 215.9}, {"high_v": 253.1}, {"transformer_frac": 1.01}, {"line_frac": 1.2}):
        checker = NetworkLimits(HOMES, LIMITS)
        checker.watch(frame(0.0, **broken))
        assert checker.result().violations == 1
        assert sum(checker.outside_s.values()) == STEP_S
    checker = NetworkLimits(HOMES, LIMITS)
    checker.watch(frame(0.0))
    assert checker.result().violations == 0


@pytest.mark.parametrize(("soc_frac", "violations", "checks"), [(0.5, 0, 1), (-0.01, 1, 1), (1.01, 1, 1), (float("nan"), 0, 0)])
def test_a_battery_beyond_empty_or_full_is_found(soc_frac: float, violations: int, checks: int) -> None:
    checker = SocWithinLimits(HOMES)
    checker.watch(frame(0.0, soc_frac=soc_frac))
    assert (checker.result().violations, checker.result().checks) == (violations, checks)


def test_the_report_has_words_for_every_checker_that_there_is() -> None:
    sources = Path(hil.__file__).parent.rglob("*.py")
    named = {name for path in sources for name in re.findall(r'Tally\("([a-z0-9_]+)"\)', path.read_text(encoding="utf-8"))}
    assert len(named) > 12 and named == CHECKER_WORDS.keys()
