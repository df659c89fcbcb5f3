"""The measurement of a broker's death, on one street: everybody comes back, nothing acknowledged is lost, no envelope is broken."""

from __future__ import annotations

import pytest

from hil.bench_restart import restart_rows


@pytest.mark.slow
def test_one_street_survives_the_death_of_its_broker() -> None:
    rows = {row["name"]: row for row in restart_rows(streets=1, outage_s=5.0, after_s=15.0)}
    assert rows.keys() == {"restart_back", "restart_storm", "restart_lost", "restart_envelope_breaches"}
    assert rows["restart_lost"]["met"] is True, rows["restart_lost"]
    assert rows["restart_envelope_breaches"]["met"] is True, rows["restart_envelope_breaches"]
    assert "of 30 homes" in rows["restart_envelope_breaches"]["note"]
