"""The schedule's benchmark rows have the promised shape; their figures are asserted where they do not depend on the machine."""

import sys
from pathlib import Path

import pytest

from hil.bench_schedule import schedule_rows
from hil.errors import HilError


def test_the_rows_have_the_contract_s_keys_and_the_exact_figures_meet_their_targets() -> None:
    rows = schedule_rows(days=2, seed=3)
    assert all({"name", "value", "unit", "target", "met"} <= row.keys() for row in rows)
    assert len({row["name"] for row in rows}) == len(rows)
    by_name = {row["name"]: row for row in rows}
    assert by_name["schedule: objective above the optimum, worst day"]["met"] is True
    assert by_name["schedule: worst broken limit"]["met"] is True
    skipped = by_name["schedule: EMHASS's optimiser / ours, same problem"]
    assert skipped["value"] is None
    assert "skipped" in skipped["note"]


def test_an_interpreter_without_emhass_is_one_clear_error() -> None:
    with pytest.raises(HilError, match="before it answered"):
        schedule_rows(days=1, emhass_python=Path(sys.executable))
