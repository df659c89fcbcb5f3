"""Study `community`: small streets of invented shapes run through all of it; the whole one is slow and needs the public data sets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hil.cli import main
from hil.studies.command import DEFAULT_DATA
from hil.studies.community import compare_streets
from hil.studies.community_case import HOUR_S, HOURS, CommunityCase, Shapes
from hil.studies.community_run import costs_alone, hold, net_of_all, own_costs, settled

DATA = DEFAULT_DATA if DEFAULT_DATA.is_dir() else Path(__file__).parents[4] / "shared" / "data"


def shapes() -> Shapes:
    rng = np.random.default_rng(11)
    evening = 1.0 + np.exp(-(((np.arange(HOURS) - 19.0) / 3.0) ** 2))
    sun = np.maximum(np.sin((np.arange(HOURS) - 6.0) / 12.0 * np.pi), 0.0)
    return Shapes(home_w=300.0 * evening[:, None] * rng.uniform(0.5, 2.0, (HOURS, 12)), sun_frac=sun)


def street(count: int, strength_frac: float) -> CommunityCase:
    return CommunityCase(count=count, seed=2, strength_frac=strength_frac, shapes=shapes())


def test_small_streets_reach_the_optimum_and_every_row_is_there() -> None:
    found = compare_streets(shapes(), 2, (24, 48), lambda words: None)
    rows = {row.quantity: row for row in found.rows}
    for name in ("free", "congested"):
        for count in (24, 48):
            assert rows[f"gap to the central optimum, {name}, {count} [%]"].met
            assert rows[f"gap that sums alone certify, {name}, {count} [%]"].met
            assert rows[f"rounds, {name}, {count}"].ours <= 25
        assert rows[f"hours whose price is strictly between feed-in and retail, {name}, 24"].met
        assert rows[f"payments of members over the retailer's bill, relative error, {name}, 24"].met
    assert rows["cost together, free, 24"].ours < rows["cost of everybody alone, free, 24"].ours
    assert rows["cost together, free, 24"].ours <= rows["cost together, congested, 24"].ours
    assert rows["fewest binding hours, congested"].ours >= 1
    assert rows["rounds of first-order sharing ADMM, free, 24"].met and rows["gap of first-order sharing ADMM, free, 24 [%]"].ours <= 0.2
    for name, draw in found.plots.items():
        assert draw().startswith("<svg") or "<svg" in draw(), name


def test_nobody_is_worse_off_in_a_free_community_than_alone() -> None:
    case = street(40, 0.1)
    held = hold(case)
    alone = costs_alone(case, lambda words: None)
    own = own_costs(case, held)
    settlement = settled(case, held)
    assert np.all(settlement.energy + own <= alone + 0.01)
    assert settlement.energy.sum() + own.sum() == pytest.approx(held.outcome.cost, rel=1e-9)
    assert settlement.rent == pytest.approx(0.0, abs=1e-9)
    assert settlement.sold_wh(HOUR_S) > 0.0
    np.testing.assert_allclose(net_of_all(case, held).sum(axis=0), held.outcome.net_w.sum(axis=0), atol=1.0)


def test_the_same_seed_gives_the_same_market() -> None:
    one, other = hold(street(64, 2.0)), hold(street(64, 2.0))
    assert one.outcome.cost == other.outcome.cost
    np.testing.assert_array_equal(one.outcome.price_per_kwh, other.outcome.price_per_kwh)


def test_missing_data_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "community", "--data", str(tmp_path)]) == 2
    assert "give the folder of data sets with --data DIR" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "profiles").is_dir(), reason="the public data sets are not here")
def test_the_whole_study_reaches_the_optimum_in_few_rounds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["study", "community", "--json", "--data", str(DATA), "--out", str(tmp_path)])
    document = json.loads(capsys.readouterr().out)
    timed = ("Clarabel's central solve over", "most over least seconds")
    missed = [row["quantity"] for row in document["rows"] if row["met"] is False and not row["quantity"].startswith(timed)]
    assert missed == []
    assert {path.name for path in tmp_path.iterdir()} == {"community-prices.svg", "community-rounds.svg", "results.json"}
