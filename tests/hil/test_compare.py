"""The table of one day under several mechanisms: what it holds, what its trades are worth, and what is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hil.agreements import AgreedPrices, in_force
from hil.cli import main
from hil.compare import HELD, mechanisms_named
from hil.errors import ScenarioError
from hil.frames import Record
from hil.trading import settle_trades


def test_a_quarter_of_an_hour_under_three_mechanisms_is_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["compare", "street", "--mechanisms", "none,doe,p2p", "--from", "10", "--hours", "0.1", "--json", "--out", str(tmp_path)]
    assert main(arguments) == 0
    table = json.loads(capsys.readouterr().out)
    none, doe, p2p = table["rows"]
    assert [row["mechanism"] for row in table["rows"]] == ["none", "doe", "p2p"]
    assert table["homes"] == 30
    assert none["curtailed_kwh"] + none["served_kwh"] > 0.0
    assert min(row["cost"] for row in table["rows"]) < 0.0, "it is the middle of a sunny morning that was asked for"
    assert (none["rounds"], doe["rounds"]) == (0, 0)
    assert p2p["agreed"] == 1
    assert p2p["rounds"] > 3
    assert p2p["messages"] > 30 * p2p["rounds"]
    for row in table["rows"]:
        assert row["cost"] == pytest.approx(30 * row["cost_per_home"])
        assert row["losses_kwh"] > 0.0
        assert 200.0 < row["voltage_min_v"] < row["voltage_max_v"] < 260.0
    assert json.loads((tmp_path / "comparison.json").read_text())["rows"] == table["rows"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--mechanisms", "doe,auction"], "mechanism 'auction' does not exist, expected some of none, doe, p2p, disco, dfe, hierarchical"),
        (["--mechanisms", "doe,doe"], "names one of them twice"),
        (["--mechanisms", ","], "names none"),
        (["--hours", "25"], "--hours must be from 0.0028 to 24, got 25"),
        (["--from", "23", "--hours", "2"], "--hours must be from 0.0028 to 1, got 2"),
    ],
)
def test_a_comparison_that_cannot_be_made_is_refused_in_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "street", *arguments]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_homes_that_sum_in_secret_cannot_be_compared(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "leaderless", "--mechanisms", "doe"]) == 2
    assert "sum in secret - at $.community" in capsys.readouterr().err


def test_every_mechanism_that_can_be_held_may_be_named() -> None:
    assert mechanisms_named(",".join(HELD)) == HELD
    with pytest.raises(ScenarioError):
        mechanisms_named("")


def record_of(net_w: list[list[float]]) -> Record:
    """One sample in every 300 s."""
    record = Record(tuple(f"h{number}" for number in range(len(net_w[0]))), 0.0, 300.0, len(net_w))
    record.home["net_import_w"][:] = net_w
    record.samples = len(net_w)
    return record


def test_the_shorter_side_trades_in_full_and_both_sides_gain_what_the_retailer_loses() -> None:
    """2 kW are offered and 3 kW wanted, by two who want 1 and 2; the price is in the middle of 0.3 and 0.1."""
    agreed = (AgreedPrices(number=0, start_s=0.0, step_s=900.0, price_per_kwh=(0.2,)),)
    trading = settle_trades(record_of([[-2000.0, 1000.0, 2000.0]]), (np.array([0.3]), np.array([0.1])), agreed)
    kwh = 2.0 * 300.0 / 3600.0
    assert trading.traded_kwh == pytest.approx(kwh)
    assert trading.gains == pytest.approx((0.1 * kwh, 0.1 * kwh / 3.0, 0.1 * kwh * 2.0 / 3.0))
    assert sum(trading.gains) == pytest.approx((0.3 - 0.1) * kwh)


def test_nothing_is_traded_while_the_retailer_pays_more_than_it_takes() -> None:
    agreed = (AgreedPrices(number=0, start_s=0.0, step_s=900.0, price_per_kwh=(0.08,)),)
    offers = np.array([0.08, 0.3]), np.array([0.12, 0.1])
    trading = settle_trades(record_of([[-2000.0, 2000.0], [-2000.0, 2000.0]]), offers, agreed)
    assert trading.traded_kwh == pytest.approx(2.0 * 300.0 / 3600.0), "only in the second interval"
    assert min(trading.gains) >= 0.0


def test_nothing_is_traded_where_nothing_was_agreed() -> None:
    trading = settle_trades(record_of([[-2000.0, 1000.0]]), (np.array([0.3]), np.array([0.1])), ())
    assert trading.traded_kwh == 0.0
    assert trading.gains == (0.0, 0.0)


def test_the_newest_agreement_sets_the_price_until_it_has_run_out() -> None:
    agreed = (
        AgreedPrices(number=900, start_s=900.0, step_s=900.0, price_per_kwh=(0.4, 0.5)),
        AgreedPrices(number=0, start_s=0.0, step_s=900.0, price_per_kwh=(0.1, 0.2, 0.3)),
    )
    (newer, at_newer), (older, at_older) = in_force(np.array([0.0, 899.0, 900.0, 1800.0, 2700.0]), agreed)
    assert (newer, older) == agreed
    assert at_newer.tolist() == [-1, -1, 0, 1, -1]
    assert at_older.tolist() == [0, 0, -1, -1, -1], "it is over once there is a newer one, also where that has run out"
