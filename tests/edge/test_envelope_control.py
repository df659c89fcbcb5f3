"""The rules of CSIP-AUS for controls; names of CACTUS procedures stand where one exercises the rule (research: peers, section 3.1)."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, UnsetType, structs

from edge.envelope_control import BRIDGE_S, ControlScheduler, Ratings
from edge.limits import Limit, LimitSet
from protocols.messages import DefaultControl, EnvelopeControl, EnvelopeSchedule, ResponseStatus
from tests.edge.world import NODE, START_S, control

RATED_W = 10_000.0
CONTRACT = LimitSet(export=Limit(limit_w=1500.0, source="contract"))


def scheduler(*, tighten_at_once: bool = False, shift_frac: float = 0.0) -> ControlScheduler:
    ratings = Ratings(export_w=RATED_W, import_w=RATED_W, generation_w=RATED_W, load_w=RATED_W)
    return ControlScheduler(
        ratings=ratings,
        contract=CONTRACT,
        draw_shift_s=lambda low, high: low + shift_frac * (high - low),
        tighten_at_once=tighten_at_once,
    )


def send(
    target: ControlScheduler, now_s: float, *controls: EnvelopeControl, cancelled: tuple[str, ...] = ()
) -> list[tuple[str, ResponseStatus]]:
    """Deliver a schedule, and evaluate it as the control cycle does."""
    message = EnvelopeSchedule(
        sender="coordinator", time_s=START_S + now_s, sequence=1, node=NODE, controls=controls, cancelled=cancelled
    )
    outcomes = target.receive_schedule(message, START_S + now_s)
    target.limits(START_S + now_s, 0.0)
    return [(outcome.mrid, outcome.status) for outcome in outcomes]


def set_default(target: ControlScheduler, export_w: float | UnsetType = 0.0, import_w: float | UnsetType = 0.0, grad: int = 0) -> None:
    message = DefaultControl(
        sender="coordinator",
        time_s=START_S,
        sequence=1,
        node=NODE,
        mrid="default",
        export_limit_w=export_w,
        import_limit_w=import_w,
        set_grad_w=grad,
    )
    assert target.receive_default(message) is None


def export_w(target: ControlScheduler, now_s: float, ahead_s: float = 0.0) -> float:
    limit = target.limits(START_S + now_s, ahead_s).export
    return math.inf if limit is None else limit.limit_w


def advance(target: ControlScheduler, now_s: float) -> list[tuple[str, ResponseStatus]]:
    return [(outcome.mrid, outcome.status) for outcome in target.advance(START_S + now_s)]


def test_all_23_five_controls_run_on_without_contact_and_then_the_default_holds() -> None:
    """ALL-23: five 60 s controls of 200/20/180/70/130 %, the link cut for 420 s, default 0/0."""
    target = scheduler()
    set_default(target)
    shares = (2.0, 0.2, 1.8, 0.7, 1.3)
    send(target, 0.0, *(control(f"c{i}", 60.0 * i, 60.0, export_w=share * RATED_W) for i, share in enumerate(shares)))
    for index, share in enumerate(shares):
        assert export_w(target, 60.0 * index + 30.0) == share * RATED_W
    assert export_w(target, 301.0) == 0.0
    assert export_w(target, 420.0) == 0.0
    assert export_w(target, 86400.0) == 0.0


def test_gen_10_the_lower_primacy_wins_for_each_control_type_by_itself() -> None:
    target = scheduler()
    send(
        target,
        0.0,
        control("both", 0.0, 600.0, export_w=4000.0, import_w=3000.0, primacy=2, created_s=START_S + 50.0),
        control("export only", 100.0, 200.0, export_w=1000.0, primacy=1),
    )
    limits = target.limits(START_S + 150.0, 0.0)
    assert limits.export == Limit(limit_w=1000.0, source="control", mrid="export only", expires_s=START_S + 300.0)
    assert limits.import_ is not None
    assert limits.import_.mrid == "both"
    assert export_w(target, 350.0) == 4000.0


def test_with_equal_primacy_the_newer_wins_even_when_it_loosens() -> None:
    target = scheduler()
    set_default(target, 500.0)
    send(target, 0.0, control("old", 0.0, 600.0, export_w=1000.0, created_s=START_S))
    assert send(target, 0.0, control("new", 0.0, 600.0, export_w=2000.0, created_s=START_S + 1.0)) == [
        ("new", ResponseStatus.RECEIVED),
        ("old", ResponseStatus.SUPERSEDED),
    ]
    assert export_w(target, 10.0) == 2000.0
    assert send(target, 10.0, control("older still", 0.0, 600.0, export_w=9000.0, created_s=START_S - 1.0))[-1] == (
        "older still",
        ResponseStatus.SUPERSEDED,
    )
    assert export_w(target, 10.0) == 2000.0


def test_a_vanished_control_is_not_cancelled_but_a_named_one_is() -> None:
    target = scheduler()
    set_default(target, 1500.0)
    send(target, 0.0, control("a", 0.0, 600.0, export_w=5000.0))
    send(target, 1.0)
    assert export_w(target, 300.0) == 5000.0
    assert send(target, 301.0, cancelled=("a", "never seen")) == [("a", ResponseStatus.CANCELLED)]
    assert export_w(target, 302.0) == 1500.0
    assert send(target, 303.0, cancelled=("a",)) == []


def test_a_control_is_immutable() -> None:
    target = scheduler()
    send(target, 0.0, control("a", 0.0, 600.0, export_w=1000.0))
    assert send(target, 1.0, control("a", 0.0, 600.0, export_w=9000.0)) == [("a", ResponseStatus.INVALID)]
    assert export_w(target, 10.0) == 1000.0


def test_past_its_end_a_control_is_ignored() -> None:
    target = scheduler()
    assert send(target, 700.0, control("late", 0.0, 600.0, export_w=9000.0)) == [("late", ResponseStatus.EXPIRED)]
    assert export_w(target, 700.0) == 1500.0


@pytest.mark.parametrize(
    "broken",
    [
        {"export_limit_w": -1.0},
        {"export_limit_w": math.nan},
        {"export_limit_w": math.inf},
        {"export_limit_w": UNSET},
        {"duration_s": math.nan},
        {"duration_s": 0.0},
        {"duration_s": None},
        {"duration_s": math.inf},
        {"start_s": math.nan},
    ],
)
def test_a_control_with_a_negative_or_missing_limit_or_no_duration_is_refused_by_name(broken: dict[str, object]) -> None:
    """evcc issue 25545: negative limits were accepted; 32492: "no duration" was taken for "expired", and expired for "unlimited"."""
    target = scheduler()
    set_default(target, 1500.0)
    bad = structs.replace(control("bad", 0.0, 600.0, export_w=1000.0), **broken)
    outcome = target.receive_schedule(
        EnvelopeSchedule(sender="coordinator", time_s=START_S, sequence=1, node=NODE, controls=(bad,)), START_S
    )
    assert [(o.mrid, o.status) for o in outcome] == [("bad", ResponseStatus.INVALID)]
    assert outcome[0].reason
    assert export_w(target, 10.0) == 1500.0


def test_a_negative_default_is_refused_and_the_one_before_stays() -> None:
    target = scheduler()
    set_default(target, 1500.0)
    bad = DefaultControl(sender="coordinator", time_s=START_S, sequence=2, node=NODE, mrid="bad", export_limit_w=-5.0)
    refused = target.receive_default(bad)
    assert refused is not None
    assert refused.status is ResponseStatus.INVALID
    assert export_w(target, 0.0) == 1500.0


def test_without_default_and_control_the_contract_holds() -> None:
    assert export_w(scheduler(), 0.0) == 1500.0


def test_a_gap_of_seconds_between_controls_causes_no_dip() -> None:
    """open-dynamic-export issue 75: events that end at 9:30:00 and begin at 9:30:04 made the house dip to its default."""
    target = scheduler()
    set_default(target, 1000.0)
    send(target, 0.0, control("a", 0.0, 300.0, export_w=8000.0), control("b", 304.0, 300.0, export_w=9000.0))
    assert export_w(target, 302.0) == 8000.0
    send(target, 301.0, control("far", 900.0, 300.0, export_w=5000.0))
    assert export_w(target, 302.0) == 8000.0
    assert export_w(target, 304.0 + 300.0 + BRIDGE_S + 1.0) == 1000.0


def test_a_bridged_gap_holds_the_stricter_of_the_two() -> None:
    target = scheduler()
    set_default(target, 0.0)
    send(target, 0.0, control("a", 0.0, 300.0, export_w=8000.0), control("b", 304.0, 300.0, export_w=3000.0))
    assert export_w(target, 302.0) == 3000.0


def test_the_limits_ahead_are_the_tightest_of_the_window() -> None:
    target = scheduler()
    set_default(target, 500.0)
    send(target, 0.0, control("a", 0.0, 300.0, export_w=8000.0), control("b", 300.0, 300.0, export_w=3000.0))
    assert export_w(target, 280.0, ahead_s=15.0) == 8000.0
    assert export_w(target, 286.0, ahead_s=15.0) == 3000.0


def test_from_and_to_the_default_the_limit_moves_by_set_grad_w() -> None:
    """27 hundredths of a percent of 10 kW each second are 27 W/s (AS/NZS 4777.2's default, about 16.67 % in a minute)."""
    target = scheduler()
    set_default(target, 1000.0, grad=27)
    send(target, 0.0, control("a", 0.0, 600.0, export_w=5000.0))
    assert export_w(target, 0.0) == pytest.approx(1000.0)
    assert export_w(target, 100.0) == pytest.approx(3700.0)
    assert export_w(target, 599.0) == pytest.approx(5000.0)
    assert export_w(target, 700.0) == pytest.approx(2300.0)
    assert export_w(target, 900.0) == pytest.approx(1000.0)


def test_without_set_grad_w_there_is_no_ramp() -> None:
    target = scheduler()
    set_default(target, 1000.0, grad=0)
    send(target, 0.0, control("a", 0.0, 600.0, export_w=5000.0))
    assert export_w(target, 1.0) == 5000.0
    assert export_w(target, 601.0) == 1000.0


def test_all_28_from_control_to_control_the_limit_steps_at_once() -> None:
    target = scheduler()
    set_default(target, 5000.0, grad=27)
    send(target, 0.0, control("a", 0.0, 300.0, export_w=5000.0), control("b", 300.0, 300.0, export_w=1000.0))
    assert export_w(target, 299.0) == 5000.0
    assert export_w(target, 300.0) == 1000.0


def test_ramp_tms_spreads_a_step_between_controls() -> None:
    target = scheduler()
    set_default(target, 5000.0, grad=27)
    send(target, 0.0, control("a", 0.0, 300.0, export_w=5000.0), control("b", 300.0, 300.0, export_w=1000.0, ramp_tms=4000))
    assert export_w(target, 320.0) == pytest.approx(3000.0)
    assert export_w(target, 341.0) == pytest.approx(1000.0)


def test_a_new_schedule_in_the_middle_of_a_ramp_does_not_restart_or_skip_it() -> None:
    target = scheduler()
    set_default(target, 1000.0, grad=27)
    send(target, 0.0, control("a", 0.0, 600.0, export_w=5000.0))
    assert export_w(target, 50.0) == pytest.approx(2350.0)
    send(target, 50.0, control("b", 600.0, 600.0, export_w=5000.0))
    assert export_w(target, 50.0) == pytest.approx(2350.0)
    assert export_w(target, 100.0) == pytest.approx(3700.0)


def test_an_edge_that_may_tighten_at_once_does_not_ramp_down_but_ramps_up() -> None:
    target = scheduler(tighten_at_once=True)
    set_default(target, 1000.0, grad=27)
    send(target, 0.0, control("a", 0.0, 600.0, export_w=5000.0))
    assert export_w(target, 100.0) == pytest.approx(3700.0)
    assert export_w(target, 601.0) == pytest.approx(1000.0)


def test_started_and_completed_are_told_once_and_in_order() -> None:
    target = scheduler()
    send(target, 0.0, control("a", 10.0, 60.0, export_w=1000.0))
    assert advance(target, 5.0) == []
    assert advance(target, 12.0) == [("a", ResponseStatus.STARTED)]
    assert advance(target, 30.0) == []
    assert advance(target, 71.0) == [("a", ResponseStatus.COMPLETED)]
    assert advance(target, 200.0) == []
    assert target.state.pending == []


def test_a_control_that_passed_while_the_edge_was_off_is_told_as_expired() -> None:
    target = scheduler()
    send(target, 0.0, control("a", 10.0, 60.0, export_w=1000.0))
    assert advance(target, 72.0) == [("a", ResponseStatus.EXPIRED)]


def test_an_older_term_is_refused() -> None:
    target = scheduler()
    set_default(target, 500.0)

    def schedule(term: int, mrid: str) -> EnvelopeSchedule:
        controls = (control(mrid, 0.0, 600.0, export_w=float(1000 * term)),)
        return EnvelopeSchedule(sender="coordinator", time_s=START_S, sequence=1, node=NODE, controls=controls, term=term)

    target.receive_schedule(schedule(3, "three"), START_S)
    outcomes = target.receive_schedule(schedule(2, "two"), START_S)
    assert [outcome.status for outcome in outcomes] == [ResponseStatus.INVALID]
    assert export_w(target, 1.0) == 3000.0


@given(
    seed=st.integers(0, 2**16),
    window_s=st.integers(-600, 600),
    duration_window_s=st.integers(-200, 200),
)
def test_random_shifts_make_neither_gaps_nor_conflicts(seed: int, window_s: int, duration_window_s: int) -> None:
    """IEEE 2030.5: randomisation is drawn once and must not create conflicts or gaps between successive events."""
    rng = random.Random(seed)
    target = scheduler()
    target._draw_shift_s = rng.uniform
    set_default(target, 0.0)
    controls = [
        control(
            f"c{i}",
            1000.0 + 300.0 * i,
            300.0,
            export_w=float(1000 * (i + 1)),
            randomize_start_s=window_s,
            randomize_duration_s=duration_window_s,
        )
        for i in range(4)
    ]
    send(target, 0.0, *controls)
    seen = [export_w(target, 400.0 + 10.0 * step) for step in range(300)]
    active = [value for value in seen if value > 0.0]
    first, last = seen.index(active[0]), len(seen) - 1 - seen[::-1].index(active[-1])
    assert all(value > 0.0 for value in seen[first : last + 1])
    assert active == sorted(active)


def test_a_shift_is_drawn_once_and_kept() -> None:
    target = scheduler(shift_frac=0.5)
    send(target, 0.0, control("a", 100.0, 300.0, export_w=5000.0, randomize_start_s=60))
    set_default(target, 1000.0)
    assert target.state.pending[0].start_shift_s == 30.0
    assert export_w(target, 129.0) == 1000.0
    assert export_w(target, 131.0) == 5000.0


def _dumb_limit(controls: list[EnvelopeControl], now_s: float, default_w: float) -> float:
    active = [c for c in controls if c.start_s <= now_s < c.start_s + c.duration_s]
    if not active:
        return default_w
    winner = min(active, key=lambda c: (c.primacy, -c.creation_time_s, c.mrid))
    assert not isinstance(winner.export_limit_w, UnsetType)
    return winner.export_limit_w


@given(seed=st.integers(0, 2**20))
def test_the_timeline_equals_a_search_over_all_controls_at_every_instant(seed: int) -> None:
    rng = random.Random(seed)
    target = scheduler()
    set_default(target, 777.0)
    sent: list[EnvelopeControl] = []
    now_s = 0.0
    for number in range(12):
        item = control(
            f"c{number}",
            now_s + 20.0 * rng.randint(-3, 20),
            20.0 * rng.randint(1, 15),
            export_w=float(rng.randint(0, 9) * 1000),
            primacy=rng.randint(0, 2),
            created_s=START_S + rng.randint(0, 3),
        )
        if item.start_s + item.duration_s > START_S + now_s:
            sent.append(item)
        send(target, now_s, item)
        now_s += rng.choice([0.0, 0.0, 20.0, 60.0])
        target.advance(START_S + now_s)
        for later_s in (0.0, 20.0, 100.0):
            probe_s = START_S + now_s + later_s
            found = target.targets([probe_s])[0].export
            assert found is not None
            assert found.limit_w == _dumb_limit(sent, probe_s, 777.0)
