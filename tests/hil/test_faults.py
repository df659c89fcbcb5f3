"""Faults are drawn from the seed and from nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from hil.faults import FEEDER_KINDS, HOME_KINDS, FaultPlan, draw_faults
from hil.scenario import SHIPPED, FaultsSection, decode_scenario

SECTION = decode_scenario((SHIPPED / "street.toml").read_bytes(), "street.toml").faults
HOMES = {"h1": ("meter", "pv"), "h2": ("meter",), "h3": ("battery", "meter", "pv")}


def drawn(seed: int, homes: dict[str, tuple[str, ...]] = HOMES, section: FaultsSection = SECTION) -> FaultPlan:
    return draw_faults(section, dict(homes), seed=seed, start_s=1e9, duration_s=86400.0, step_s=10.0)


@given(st.integers(0, 2**32 - 1))
def test_the_same_seed_draws_the_same_faults(seed: int) -> None:
    assert drawn(seed) == drawn(seed)


@given(st.integers(0, 2**32 - 1))
def test_faults_lie_on_the_grid_after_the_quiet_start_and_hit_what_is_there(seed: int) -> None:
    for fault in drawn(seed).faults:
        assert (fault.start_s - 1e9) % 10.0 == 0.0 and fault.duration_s % 10.0 == 0.0 and fault.duration_s > 0.0
        assert 1e9 + SECTION.quiet_h * 3600.0 - 10.0 <= fault.start_s < 1e9 + 86400.0
        if fault.kind in FEEDER_KINDS:
            assert fault.home is None
        elif fault.kind in HOME_KINDS:
            assert fault.home in HOMES and fault.device is None
        else:
            assert fault.home is not None and fault.device in HOMES[fault.home]


def test_rates_differ_between_seeds_and_stay_below_their_maximum() -> None:
    most = {entry.kind: entry.max_per_day for entry in SECTION.mix}
    seen = {(rate.kind, rate.per_day) for seed in range(20) for rate in drawn(seed).rates}
    assert all(per_day <= most[kind] for kind, per_day in seen)
    assert len({per_day for kind, per_day in seen if kind == "modbus_timeout"}) == 20


def test_another_home_does_not_redraw_the_faults_of_its_neighbours() -> None:
    more = drawn(5, {**HOMES, "h4": ("meter",)})
    assert [fault for fault in more.faults if fault.home != "h4"] == list(drawn(5).faults)


def test_a_run_without_faults_has_none() -> None:
    assert drawn(1, section=FaultsSection(enabled=False, mix=SECTION.mix)) == FaultPlan(rates=(), faults=())
