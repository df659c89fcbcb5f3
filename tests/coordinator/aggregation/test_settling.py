"""Declared adherence against the operator's own meter: who tells the truth is never convicted, who does not is, soon."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from scipy.stats import binom

from coordinator.aggregation.command import read_meter
from coordinator.aggregation.settlement import OpenedRound, Settled
from coordinator.aggregation.settling import CONVICTED_BELOW, Finding, settle, tail
from coordinator.errors import ConfigError
from protocols.aggregation.settlement import Sampled
from protocols.messages import AdherenceReport

DAY_S = 86400.0
STEP_S = 900.0
WINDOW_S = 6 * 3600.0
RATING_W = 14e3


@pytest.mark.parametrize(("share", "count", "misses"), [(0.01, 5, 1), (0.3, 40, 20), (0.5, 12, 12), (0.2, 7, 0)])
def test_the_tail_is_that_of_a_binomial_distribution_where_all_windows_are_alike(share: float, count: int, misses: int) -> None:
    """scipy 1.x, `binom.sf`."""
    assert tail([share] * count, misses) == pytest.approx(binom.sf(misses - 1, count, share), rel=1e-9)


def test_the_tail_takes_each_window_for_itself() -> None:
    """Two samples, missed with 0.1 and 0.4: at least one with 1 - 0.9 x 0.6, both with 0.04."""
    assert tail([0.1, 0.4], 1) == pytest.approx(0.46)
    assert tail([0.1, 0.4], 2) == pytest.approx(0.04)


def household(rng: random.Random, kept_frac: float, declared_frac: float, *, days: int, share: float = 0.01) -> Finding | None:
    """A house that keeps to its reports with one probability, and declares another share; the settlement opens a hundredth."""
    openings, readings, reports = [], {}, []
    for window in range(days * 4):
        from_s, kept = window * WINDOW_S, 0
        for index in range(24):
            start_s = from_s + (index - 1) * STEP_S
            keeps = rng.random() < kept_frac
            kept += keeps
            if rng.random() < share:
                sampled = Sampled(round_name=f"1:{window * 24 + index + 1}", leader="h1", key_id="0" * 16, beacon="0" * 64)
                values = (0, rng.randint(-5000, 5000), *([0] * 94))
                round_ = OpenedRound(sampled=sampled, content="plan", start_s=start_s, step_s=STEP_S)
                openings.append(Settled(member="h", round=round_, values=values))
                readings["h", start_s + STEP_S, STEP_S] = values[1] + (500.0 if keeps else 6000.0)
        said = min(24, max(kept, round(24 * declared_frac)))
        reports.append(
            AdherenceReport(
                sender="h", time_s=from_s + WINDOW_S, sequence=window, from_s=from_s, duration_s=WINDOW_S, intervals=24, kept=said
            )
        )
    found = settle(openings, {"h": reports}, readings, {"h": RATING_W})
    return found[0] if found else None


def test_who_declares_what_is_so_is_not_convicted_however_badly_it_keeps_its_plans() -> None:
    rng = random.Random(1)
    for _ in range(150):
        finding = household(rng, rng.random(), 0.0, days=30, share=0.05)
        assert finding is None or not finding.disproved


def test_who_keeps_nothing_and_declares_everything_is_disproved_within_two_weeks() -> None:
    """1 % of 96 reports a day is one a day; four misses that a declaration of all kept does not allow are enough."""
    rng = random.Random(2)
    caught = [household(rng, 0.0, 1.0, days=14) for _ in range(100)]
    assert sum(finding is not None and finding.disproved for finding in caught) >= 99
    assert tail([0.01] * 4, 4) < CONVICTED_BELOW < tail([0.01] * 2, 2)


def test_a_second_declaration_of_the_same_time_is_no_excuse_for_the_first() -> None:
    """A window that overlaps and owns up to everything, beside one that declares everything kept."""
    sampled = Sampled(round_name="1:1", leader="h1", key_id="0" * 16, beacon="0" * 64)
    round_ = OpenedRound(sampled=sampled, content="plan", start_s=0.0, step_s=STEP_S)
    opened = Settled(member="h", round=round_, values=(0, 0))
    owned = AdherenceReport(sender="h", time_s=WINDOW_S, sequence=1, from_s=0.0, duration_s=WINDOW_S - 1.0, intervals=24, kept=0)
    claimed = AdherenceReport(sender="h", time_s=WINDOW_S, sequence=2, from_s=0.0, duration_s=WINDOW_S, intervals=24, kept=24)
    [found] = settle([opened], {"h": [owned, claimed]}, {("h", STEP_S, STEP_S): 9000.0}, {"h": RATING_W})
    assert found.missed == 1 and found.probability == pytest.approx(0.01)


def test_what_was_not_opened_not_declared_or_not_read_says_nothing() -> None:
    sampled = Sampled(round_name="1:1", leader="h1", key_id="0" * 16, beacon="0" * 64)
    plan = OpenedRound(sampled=sampled, content="plan", start_s=0.0, step_s=STEP_S)
    other = OpenedRound(sampled=sampled, content="flexibility", start_s=0.0, step_s=STEP_S)
    report = AdherenceReport(sender="h", time_s=WINDOW_S, sequence=1, from_s=0.0, duration_s=WINDOW_S, intervals=24, kept=24)
    readings = {("h", STEP_S, STEP_S): 9000.0}
    whole = Settled(member="h", round=plan, values=(0,) * 96)
    assert settle([whole], {"h": [report]}, readings, {"h": RATING_W})[0].missed == 1
    for openings, declared, read, ratings in (
        ([Settled(member="h", round=plan, values=None)], {"h": [report]}, readings, {"h": RATING_W}),
        ([Settled(member="h", round=other, values=(0,) * 96)], {"h": [report]}, readings, {"h": RATING_W}),
        ([whole], {}, readings, {"h": RATING_W}),
        ([whole], {"h": [report]}, {("h", STEP_S, 300.0): 9000.0}, {"h": RATING_W}),
        ([whole], {"h": [report]}, readings, {"g": RATING_W}),
    ):
        assert settle(openings, declared, read, ratings) == []


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("node,start_s\nh1,0\n", "line 1: expected columns node,start_s,duration_s,net_import_w"),
        ("node,start_s,duration_s,net_import_w\nh1,0,900,many\n", "line 2 column net_import_w: expected a finite number, got 'many'"),
        ("node,start_s,duration_s,net_import_w\nh1,0\n", "line 2 column duration_s: expected a finite number"),
        ("node,start_s,duration_s,net_import_w\nh1,nan,900,1\n", "line 2 column start_s"),
    ],
)
def test_a_bad_table_of_readings_is_one_line(tmp_path: Path, table: str, words: str) -> None:
    path = tmp_path / "meter.csv"
    path.write_text(table, encoding="utf-8")
    with pytest.raises(ConfigError, match=words):
        read_meter(path)


def test_a_table_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_meter(tmp_path / "none.csv")
