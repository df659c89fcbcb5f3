"""A hundred households under a key of full length: every sum exact, and what encryption costs a household's controller."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.bench_hundred import MEMBERS, ROUNDS_PER_DAY, encryption_frac, hundred_rows, play, street_of_hundred


async def test_two_rounds_of_a_hundred_households_are_exact_and_cost_a_controller_less_than_a_hundredth(tmp_path: Path) -> None:
    street = street_of_hundred(tmp_path / "street", every=1)
    rounds, wrong, spent = await play(street, 450.0)
    assert (rounds, wrong) == (2, 0), "in these, roots are agreed with every peer, once for the life of an epoch"
    first_s = spent.cpu_s
    street.run(900.0)
    share, words = await encryption_frac(tmp_path, (spent.cpu_s - first_s) / (2 * MEMBERS))
    assert street.desk.opened == 4
    assert share < 0.01, words


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_day_of_a_hundred_households_with_a_round_every_quarter_of_an_hour_is_exact() -> None:
    wrong, missing, encryption = hundred_rows()
    assert (wrong["value"], missing["value"]) == (0, 0), f"{ROUNDS_PER_DAY} rounds are due"
    assert encryption["met"], encryption["note"]
