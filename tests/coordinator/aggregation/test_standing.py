"""Reputation from what the operator can see without seeing power: presence, answers to controls, and what members declare."""

from __future__ import annotations

import pytest

from coordinator.aggregation.standing import ANSWER_S, DECLARED_S, INTERVAL_S, StandingBook
from protocols.messages import AdherenceReport, ControlResponse, EnvelopeControl, ResponseStatus
from protocols.reputation import NEWCOMER

NAMES = ("good", "mute", "absent")


def control(start_s: float, number: int = 1) -> EnvelopeControl:
    return EnvelopeControl(
        mrid=f"{start_s:.0f}-{number}", creation_time_s=0.0, start_s=start_s, duration_s=300.0, export_limit_w=0.0, import_limit_w=0.0
    )


def response(name: str, start_s: float, status: ResponseStatus = ResponseStatus.STARTED, number: int = 1) -> ControlResponse:
    return ControlResponse(sender=name, time_s=start_s, sequence=1, mrid=f"{start_s:.0f}-{number}", status=status)


def report(name: str, end_s: float, kept: int, intervals: int = 24) -> AdherenceReport:
    return AdherenceReport(
        sender=name, time_s=end_s, sequence=1, from_s=end_s - 21_600.0, duration_s=21_600.0, intervals=intervals, kept=kept
    )


def live(book: StandingBook, hours: float, *, answer_after_s: float = 5.0, cut: bool = False) -> float:
    """Everybody is told of a control every five minutes; `good` answers, `mute` is there and silent, `absent` is not there."""
    book.seen("good", True, 0.0)
    book.seen("mute", True, 0.0)
    now_s, answers = 0.0, []
    while now_s < hours * 3600.0:
        if now_s % 300.0 == 0.0:
            for name in NAMES:
                book.told(name, [control(now_s + 300.0)])
            answers.append(now_s + answer_after_s)
        if answers and now_s >= answers[0]:
            book.responded(response("good", answers.pop(0) - answer_after_s), now_s)
        if cut:
            book.cut_off(now_s)
        book.step(now_s, rounds_opened=True)
        now_s += 5.0
    return now_s


def test_communication_is_the_share_of_begun_controls_that_were_answered_in_time() -> None:
    book = StandingBook(NAMES, 0.0)
    live(book, 6.0)
    good, mute, absent = (book.reputation(name) for name in NAMES)
    assert good.communication_frac > NEWCOMER > mute.communication_frac == absent.communication_frac
    assert good.uptime_frac == mute.uptime_frac > NEWCOMER > absent.uptime_frac
    assert good.value_frac > mute.value_frac > absent.value_frac


def test_an_answer_that_comes_too_late_is_none() -> None:
    book = StandingBook(NAMES, 0.0)
    live(book, 3.0, answer_after_s=ANSWER_S + 10.0)
    assert book.reputation("good").communication_frac == book.reputation("mute").communication_frac < NEWCOMER


def test_while_the_operator_is_cut_off_nobody_is_blamed() -> None:
    book = StandingBook(NAMES, 0.0)
    live(book, 3.0, cut=True)
    assert all(book.reputation(name).communication_frac == NEWCOMER for name in NAMES)


def test_a_control_that_was_replaced_before_it_began_is_expected_once() -> None:
    book = StandingBook(NAMES, 0.0)
    book.told("good", [control(300.0, 1)])
    book.told("good", [control(300.0, 2)])
    book.responded(response("good", 300.0, ResponseStatus.SUPERSEDED, 1), 200.0)
    book.responded(response("good", 300.0, number=2), 301.0)
    book.step(INTERVAL_S, rounds_opened=True)
    assert book.reputation("good").communication_frac > NEWCOMER


def test_what_a_member_declares_of_its_plans_moves_it_most() -> None:
    book = StandingBook(NAMES, 0.0)
    for hour in range(1, 25):
        if hour % 6 == 0:
            book.declared(report("good", hour * 3600.0, 24), hour * 3600.0)
            book.declared(report("mute", hour * 3600.0, 6), hour * 3600.0)
        for quarter in range(4):
            book.step(hour * 3600.0 + quarter * 900.0, rounds_opened=True)
    assert book.reputation("good").adherence_frac > NEWCOMER > book.reputation("mute").adherence_frac
    assert book.reputation("mute").adherence_frac > 0.25


@pytest.mark.parametrize("rounds_opened", [True, False])
def test_silence_counts_as_nothing_kept_where_the_community_has_reported(rounds_opened: bool) -> None:
    book = StandingBook(NAMES, 0.0)
    now_s = 0.0
    while now_s < DECLARED_S + 6.0 * 3600.0:
        now_s += INTERVAL_S
        book.step(now_s, rounds_opened=rounds_opened)
    assert (book.reputation("good").adherence_frac < NEWCOMER) is rounds_opened


def test_a_declaration_counts_once_and_cannot_exceed_its_intervals() -> None:
    book = StandingBook(NAMES, 0.0)
    book.declared(report("good", 21_600.0, 12), 21_600.0)
    book.declared(report("good", 21_600.0, 24), 21_700.0)
    book.declared(report("good", 43_200.0, 30), 43_200.0)
    book.step(43_200.0, rounds_opened=True)
    assert book.reputation("good").adherence_frac == pytest.approx(0.5), "half was declared first, and that holds"


def test_a_proven_breach_halves_and_reputations_survive_a_restart() -> None:
    book = StandingBook(NAMES, 0.0)
    live(book, 1.0)
    book.convicted("good", 3600.0)
    assert book.value("good") < 0.3
    again = StandingBook(NAMES, 0.0)
    again.restore(book.save())
    assert again.reputation("good") == book.reputation("good")
