"""Reputation is earned slowly, lost at once, and never leaves [0, 1] (Li et al. 2026, section 4.4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.reputation import NEWCOMER, Observation, Reputation, observe, strike

DAY_S = 86400.0
fractions = st.floats(min_value=0.0, max_value=1.0)


def days(reputation: Reputation, number: int, online: float, adhered: float, delivered: float) -> Reputation:
    for _ in range(number):
        reputation = observe(
            reputation,
            Observation(
                time_s=reputation.time_s + DAY_S, duration_s=DAY_S, online_frac=online, adhered_frac=adhered, delivered_frac=delivered
            ),
        )
    return reputation


def test_a_newcomer_is_below_the_threshold_and_reaches_it_after_five_good_days() -> None:
    newcomer = Reputation(time_s=0.0)
    assert newcomer.value_frac == NEWCOMER < 0.6
    assert days(newcomer, 4, 1.0, 1.0, 1.0).value_frac < 0.6
    assert days(newcomer, 6, 1.0, 1.0, 1.0).value_frac >= 0.6


def test_it_grows_by_at_most_two_hundredths_a_day_and_falls_at_once() -> None:
    member = days(Reputation(time_s=0.0), 60, 1.0, 1.0, 1.0)
    assert days(member, 1, 1.0, 1.0, 1.0).value_frac - member.value_frac <= 0.02 + 1e-12
    assert strike(member, member.time_s).value_frac == pytest.approx(0.5 * member.value_frac, rel=0.02)


def test_a_strike_fades_by_half_in_thirty_days() -> None:
    member = strike(days(Reputation(time_s=0.0), 100, 1.0, 1.0, 1.0), 100 * DAY_S)
    assert days(member, 30, 1.0, 1.0, 1.0).strikes == pytest.approx(0.5)


def test_adherence_weighs_most() -> None:
    start = Reputation(time_s=0.0)
    losses = [
        start.value_frac - days(start, 7, *shares).value_frac
        for shares in ((0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0))
    ]
    assert losses[1] > losses[0] > losses[2] > 0.0
    assert losses[1] == pytest.approx(0.5 * 0.25, rel=1e-6)


def test_an_interval_that_says_nothing_changes_no_mean() -> None:
    member = observe(Reputation(time_s=0.0), Observation(time_s=DAY_S, duration_s=DAY_S))
    assert (member.uptime_frac, member.adherence_frac, member.communication_frac) == (NEWCOMER, NEWCOMER, NEWCOMER)


def test_an_old_observation_is_ignored() -> None:
    member = days(Reputation(time_s=0.0), 3, 1.0, 1.0, 1.0)
    assert observe(member, Observation(time_s=DAY_S, duration_s=DAY_S, online_frac=0.0)) == member


@given(st.lists(st.tuples(fractions, fractions, fractions, st.booleans()), max_size=60))
def test_it_stays_a_fraction_and_is_monotone_in_what_was_seen(history: list[tuple[float, float, float, bool]]) -> None:
    worse = better = Reputation(time_s=0.0)
    for online, adhered, delivered, struck in history:
        worse = days(worse, 1, online, adhered, delivered)
        better = days(better, 1, min(1.0, online + 0.1), min(1.0, adhered + 0.1), min(1.0, delivered + 0.1))
        if struck:
            worse = strike(worse, worse.time_s)
        assert 0.0 <= worse.value_frac <= better.value_frac + 1e-12 <= 1.0 + 1e-12
