"""Source 001 on its network: the calibrated base case, the order of the three ways, and coverage of margins."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.mechanisms.dfe.uncertainty import Uncertainty
from hil.errors import ScenarioError
from hil.studies.dfe69 import TARGET_PCT, compare, dfe69
from hil.studies.dfe69_case import BASE_LOSS_WH, DfeCase, load_dfe_case
from hil.studies.dfe69_coverage import SHAPES, allowed, excursions
from hil.studies.result import StudyOrder

DATA = Path(__file__).parents[4] / "shared" / "data"
needs_data = pytest.mark.skipif(not (DATA / "profiles").is_dir(), reason="the public data sets are not here")


@pytest.fixture(scope="module")
def case() -> DfeCase:
    return load_dfe_case(DATA, 1)


@needs_data
def test_agreed_envelopes_lose_less_and_trade_more_than_those_of_the_operator_alone(case: DfeCase) -> None:
    found = compare(case)
    assert found.base.loss_kwh * 1e3 == pytest.approx(BASE_LOSS_WH, rel=1e-3)
    assert found.base.loss_kvarh == pytest.approx(1351.0, rel=0.01)
    assert found.dfe.change_pct <= TARGET_PCT
    assert found.dfe.loss_kwh < found.doe.loss_kwh < found.base.loss_kwh
    assert found.dfe.served_kwh >= found.doe.served_kwh - 0.1
    assert found.dfe.peer_kwh > found.doe.peer_kwh
    assert found.agreement.check.holds
    assert found.gap_pct <= 0.05


@needs_data
@pytest.mark.parametrize("shape", list(SHAPES))
def test_normal_margins_fail_where_errors_are_not_normal_and_others_hold(case: DfeCase, shape: str) -> None:
    assert excursions(case, Uncertainty.GAUSSIAN, 0.99, SHAPES[shape], 7) > 0.015
    for kind in (Uncertainty.UNIMODAL, Uncertainty.CANTELLI, Uncertainty.SAMPLES):
        assert excursions(case, kind, 0.99, SHAPES[shape], 7) <= allowed(0.99)


def test_a_missing_data_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"vic_homes99.*--data DIR"):
        load_dfe_case(tmp_path, 1)


@needs_data
@pytest.mark.slow
def test_the_whole_study_meets_its_targets() -> None:
    findings = dfe69(StudyOrder(data=DATA), lambda words: None)
    assert [row.quantity for row in findings.rows if row.met is False] == []
