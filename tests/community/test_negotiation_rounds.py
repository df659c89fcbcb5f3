"""The negotiation over rounds: members are told a price, answer in secret, and whoever has the sums computes every signal again."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from coordinator.aggregation.settings import AggregationSection as DeskSection
from protocols import negotiation
from tests.community.leadership_street import Street

ITERATIONS = 4


async def bargaining(folder: Path) -> Street:
    street = Street(folder, 8, desk=DeskSection(enabled=True, members_min=3, iterations_max=ITERATIONS))
    await street.start()
    street.run(30.0)
    return street


async def test_every_member_hears_every_signal_and_the_coordinator_replays_the_negotiation(tmp_path: Path) -> None:
    street = await bargaining(tmp_path)
    for house in street.houses.values():
        assert [signal.iteration for signal in house.signals] == list(range(ITERATIONS + 1))
        assert [signal.final for signal in house.signals] == [False] * ITERATIONS + [True]
    transcript = street.desk.bargain.transcript
    assert transcript is not None and len(transcript.answers) == ITERATIONS
    said = street.houses["h000"].signals
    for state, signal in zip(negotiation.replay(transcript.terms, transcript.answers), said, strict=True):
        assert np.array_equal(state.price_per_kwh, np.asarray(signal.price_per_kwh))
        assert np.array_equal(state.excess_w, np.asarray(signal.excess_w))


async def test_the_answers_are_exact_sums_of_what_the_members_said(tmp_path: Path) -> None:
    street = await bargaining(tmp_path)
    transcript = street.desk.bargain.transcript
    assert transcript is not None
    rounds = [name for name in street.houses["h000"].said if name not in ("1:1", "1:2")]
    expected = [tuple(street.expected(name, street.names)) for name in rounds]
    assert all(values in expected for values, _ in transcript.answers)


async def test_a_new_leader_goes_on_where_the_negotiation_stood(tmp_path: Path) -> None:
    street = Street(tmp_path, 9, desk=DeskSection(enabled=True, members_min=3, iterations_max=60))
    await street.start()
    while street.desk.bargain.state is None or street.desk.bargain.state.iteration < 3:
        street.step()
    reached = street.desk.bargain.state.iteration
    street.kill(street.leader())
    street.run(25.0)
    transcript, state = street.desk.bargain.transcript, street.desk.bargain.state
    assert transcript is not None and state is not None
    assert transcript.number == 1 and state.iteration > reached
