"""The block planner: no request above 125 registers, none that cuts a point, and never one too many."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.devices.blocks import Block, plan_blocks, widen

ITEMS = st.lists(st.tuples(st.integers(0, 400), st.integers(1, 10)).map(lambda t: (t[0], t[0] + t[1])), max_size=12)


@given(ITEMS)
def test_every_item_arrives_whole_in_a_legal_request(items: list[tuple[int, int]]) -> None:
    blocks = plan_blocks(items)
    assert all(1 <= block.count <= 125 for block in blocks)
    assert all(any(block.covers(item) for block in blocks) for item in items)


@given(ITEMS)
def test_a_block_begins_and_ends_where_an_item_does(items: list[tuple[int, int]]) -> None:
    for block in plan_blocks(items):
        assert block.start in {start for start, _ in items}
        assert block.end in {end for _, end in items}


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 8)).map(lambda t: (t[0], t[0] + t[1])), min_size=1, max_size=6))
def test_no_plan_needs_fewer_requests(items: list[tuple[int, int]]) -> None:
    limit = 20
    planned = len(plan_blocks(items, limit))
    windows = [Block(start, limit) for start in {start for start, _ in items}]
    fewest = next(
        n
        for n in range(1, len(items) + 1)
        if any(all(any(w.covers(i) for w in chosen) for i in items) for chosen in itertools.combinations(windows, min(n, len(windows))))
    )
    assert planned == fewest


@given(ITEMS, ITEMS)
def test_widening_loses_nothing_and_adds_no_request(items: list[tuple[int, int]], extras: list[tuple[int, int]]) -> None:
    blocks = plan_blocks(items)
    wider, left = widen(blocks, extras)
    assert len(wider) == len(blocks)
    assert all(block.count <= 125 for block in wider)
    assert all(any(block.covers(item) for block in wider) for item in items)
    assert all(item in left or any(block.covers(item) for block in wider) for item in extras)


def test_an_item_that_no_request_can_hold_is_an_error() -> None:
    with pytest.raises(ValueError, match="1 to 125 registers"):
        plan_blocks([(0, 126)])
