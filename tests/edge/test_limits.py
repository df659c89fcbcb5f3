"""Limits only narrow, whoever says what; a tie goes to the higher stage."""

import math

from hypothesis import given
from hypothesis import strategies as st

from edge.limits import Limit, LimitSet, narrow_limits


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
