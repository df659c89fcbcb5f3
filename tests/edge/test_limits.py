"""Limits only narrow, whoever says what; a tie or an empty intersection goes to the higher stage."""

import math

from hypothesis import given
from hypothesis import strategies as st

from edge.limits import Band, Limit, LimitSet, narrow_bands, narrow_limits

STAGES = ("rating", "safety", "envelope", "schedule", "policy")
powers = st.floats(-1e4, 1e4)


def test_the_tightest_limit_wins_with_its_provenance() -> None:
    rating = LimitSet(export=Limit(limit_w=10_000.0, source="rating"), import_=Limit(limit_w=14_000.0, source="rating"))
    envelope = LimitSet(export=Limit(limit_w=0.0, source="control", mrid="a", expires_s=5.0))
    limits = narrow_limits([rating, envelope])
    assert limits.export == Limit(limit_w=0.0, source="control", mrid="a", expires_s=5.0)
    assert limits.import_ == Limit(limit_w=14_000.0, source="rating")
    assert limits.generation is None


def test_of_equal_limits_the_higher_stage_is_the_source() -> None:
    high, low = (LimitSet(export=Limit(limit_w=5.0, source=source)) for source in ("rating", "control"))
    found = narrow_limits([high, low]).export
    assert found is not None
    assert found.source == "rating"


@given(st.lists(st.one_of(st.none(), st.floats(0.0, 1e6)), max_size=6))
def test_a_lower_stage_never_loosens(values: list[float | None]) -> None:
    sets = [LimitSet(export=None if value is None else Limit(limit_w=value, source="x")) for value in values]
    before_w = math.inf
    for count in range(len(sets) + 1):
        found = narrow_limits(sets[:count]).export
        after_w = math.inf if found is None else found.limit_w
        assert after_w <= before_w
        before_w = after_w


def test_an_empty_intersection_goes_to_the_higher_stage_with_a_reason() -> None:
    band, reason = narrow_bands(
        [Band(low_w=-3000.0, high_w=3000.0, source="rating"), Band(low_w=4000.0, high_w=5000.0, source="schedule")]
    )
    assert (band.low_w, band.high_w) == (3000.0, 3000.0)
    assert reason is not None
    assert "rating wins" in reason


def test_a_band_of_garbage_is_passed_over_by_name() -> None:
    band, reason = narrow_bands(
        [Band(low_w=-3000.0, high_w=3000.0, source="rating"), Band(low_w=math.nan, high_w=0.0, source="policy")]
    )
    assert (band.low_w, band.high_w) == (-3000.0, 3000.0)
    assert reason is not None
    assert "policy" in reason


@given(st.lists(st.tuples(powers, powers), min_size=1, max_size=5))
def test_the_result_lies_inside_every_higher_band(pairs: list[tuple[float, float]]) -> None:
    bands = [Band(low_w=min(a, b), high_w=max(a, b), source=stage) for (a, b), stage in zip(pairs, STAGES, strict=False)]
    for count in range(1, len(bands) + 1):
        found, _ = narrow_bands(bands[:count])
        earlier, _ = narrow_bands(bands[: max(count - 1, 1)])
        assert earlier.low_w <= found.low_w <= found.high_w <= earlier.high_w
