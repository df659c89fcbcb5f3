"""A house counts how well it keeps to what it reported, and declares two numbers and nothing else."""

from __future__ import annotations

import pytest

from edge.leadership.adherence import WINDOW_S, Adherence, Declared
from protocols.messages import RoundCall, RoundContent

SIZE_W = 10_000.0
TOLERANCE_W = 1000.0
BEGIN_S = 1_700_006_400.0 // WINDOW_S * WINDOW_S
CYCLE_S = 10.0


def call(start_s: float, content: RoundContent = RoundContent.PLAN) -> RoundCall:
    return RoundCall(
        round_name="1:1", epoch=1, key_id="0" * 16, seats="1", previous="0" * 64, content=content, start_s=start_s, step_s=900.0,
        closes_s=start_s,
    )  # fmt: skip


def window(
    adherence: Adherence, *, off_by_w: float = 0.0, wrong: int = 0, rounds: bool = True, gap: tuple[int, int] = (0, 0)
) -> Declared | None:
    """Six hours in which 1500 W are reported and drawn, but for `wrong` intervals; no meter in the intervals of `gap`."""
    for cycle in range(round(WINDOW_S / CYCLE_S)):
        now_s = BEGIN_S + CYCLE_S * cycle
        interval = int((now_s - BEGIN_S) // 900.0)
        if rounds and now_s % 900.0 == 30.0:
            adherence.reported(call(now_s - 30.0), [0, 1500, 99])
        if not gap[0] <= interval < gap[1]:
            assert adherence.metered(now_s, 1500.0 + (off_by_w if interval <= wrong else 0.0)) is None
    return adherence.metered(BEGIN_S + WINDOW_S, 1500.0)


def test_what_was_promised_one_interval_ahead_is_held_against_the_meters_mean() -> None:
    declared = window(Adherence(SIZE_W), off_by_w=TOLERANCE_W + 1.0, wrong=5)
    assert declared == Declared(from_s=BEGIN_S, duration_s=WINDOW_S, intervals=23, kept=18), "nothing was promised for the first"


def test_a_tenth_of_the_connection_is_no_deviation() -> None:
    declared = window(Adherence(SIZE_W), off_by_w=-TOLERANCE_W, wrong=23)
    assert declared is not None and declared.kept == declared.intervals == 23


def test_without_rounds_nothing_is_declared() -> None:
    assert window(Adherence(SIZE_W), rounds=False) is None


def test_an_interval_that_the_meter_did_not_see_says_nothing() -> None:
    declared = window(Adherence(SIZE_W), gap=(4, 10))
    assert declared is not None and declared.intervals == declared.kept == 17


def test_each_window_is_counted_anew() -> None:
    adherence = Adherence(SIZE_W)
    assert window(adherence) is not None
    assert adherence.metered(BEGIN_S + 2.0 * WINDOW_S, 1500.0) is None


@pytest.mark.parametrize("content", [RoundContent.FLEXIBILITY, RoundContent.NEGOTIATION])
def test_only_plans_are_promises(content: RoundContent) -> None:
    adherence = Adherence(SIZE_W)
    adherence.reported(call(BEGIN_S, content), [0, 1500])
    for cycle in range(200):
        adherence.metered(BEGIN_S + CYCLE_S * cycle, 9000.0)
    assert adherence.metered(BEGIN_S + WINDOW_S, 0.0) is None
