"""Packing, padding and the sums that come back exact or are refused."""

from __future__ import annotations

import copy
import pickle
from itertools import pairwise

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from protocols.aggregation import packing
from protocols.aggregation.packing import Layout, SumRefused, ValuesRefused
from protocols.aggregation.pads import PadGraph, PadKeys, add_pads, pad, sign

LAYOUT = Layout(values=7, members_max=12)
BEACON = b"beacon of the round"
ALPHA = packing.checksum_coefficients(LAYOUT, BEACON)


def keys(count: int) -> list[PadKeys]:
    return [PadKeys(f"h{i:02d}", X25519PrivateKey.from_private_bytes(bytes([i + 1]) * 32)) for i in range(count)]


def summed(reports: list[packing.Slots]) -> packing.Slots:
    total = sum(int.from_bytes(report.tobytes(), "little") for report in reports)
    return packing.unpack([total], LAYOUT.slots, LAYOUT.slots)


vectors = st.lists(st.integers(min_value=-LAYOUT.value_max, max_value=LAYOUT.value_max), min_size=7, max_size=7)


@given(st.lists(vectors, min_size=1, max_size=12))
def test_signed_sums_are_exact_up_to_the_largest_group(reports: list[list[int]]) -> None:
    sums, count = packing.decode(LAYOUT, summed([packing.encode(LAYOUT, r, ALPHA) for r in reports]), ALPHA)
    assert sums.tolist() == np.array(reports).sum(axis=0).tolist()
    assert count == len(reports)


def test_extremes_of_both_signs_do_not_carry() -> None:
    for extreme in (LAYOUT.value_max, -LAYOUT.value_max):
        sums, _ = packing.decode(LAYOUT, summed([packing.encode(LAYOUT, [extreme] * 7, ALPHA)] * 12), ALPHA)
        assert sums.tolist() == [12 * extreme] * 7


@pytest.mark.parametrize(
    "values", [[0.5] * 7, [True] * 7, [1] * 6, [[1] * 7], [LAYOUT.value_max + 1] * 7, [-(10**30)] * 7, ["1"] * 7, [None] * 7]
)
def test_what_is_not_a_vector_of_small_integers_is_refused(values: object) -> None:
    with pytest.raises(ValuesRefused):
        packing.encode(LAYOUT, values, ALPHA)  # type: ignore[arg-type]


@pytest.mark.parametrize(("values", "pad_bits", "members"), [(96, 24, 256), (0, 24, 10), (96, 31, 3), (96, 7, 2)])
def test_a_layout_that_would_carry_is_refused(values: int, pad_bits: int, members: int) -> None:
    with pytest.raises(ValuesRefused):
        Layout(values=values, pad_bits=pad_bits, members_max=members)


def test_pads_cancel_over_the_whole_group_and_only_over_it() -> None:
    group = keys(6)
    graph = PadGraph(tuple(k.member for k in group), BEACON, degree=3)
    public = {k.member: k.public_bytes for k in group}
    reports = []
    for index, member in enumerate(group):
        seeds = [(peer, member.seed(peer, public[peer], b"r1")) for peer in graph.neighbours(member.member)]
        reports.append(add_pads(LAYOUT, packing.encode(LAYOUT, [index - 3] * 7, ALPHA), member.member, seeds))
    sums, count = packing.decode(LAYOUT, summed(reports), ALPHA)
    assert (sums.tolist(), count) == ([-3] * 7, 6)
    for missing in range(6):
        with pytest.raises(SumRefused):
            packing.decode(LAYOUT, summed(reports[:missing] + reports[missing + 1 :]), ALPHA)


def test_both_sides_of_a_pair_derive_one_seed_and_each_round_another() -> None:
    a, b = keys(2)
    assert a.seed("h01", b.public_bytes, b"r1") == b.seed("h00", a.public_bytes, b"r1")
    assert a.seed("h01", b.public_bytes, b"r1") != a.seed("h01", b.public_bytes, b"r2")
    assert sign("h00", "h01") == -sign("h01", "h00") == 1


def test_the_graph_is_the_same_for_everybody_and_near_its_expected_degree() -> None:
    roster = tuple(f"n{i:03d}" for i in range(192))
    graph = PadGraph(roster, BEACON)
    degrees = [len(graph.neighbours(member)) for member in roster]
    assert 40 < np.mean(degrees) < 56
    assert all(graph.joined(a, b) == PadGraph(roster, BEACON).joined(b, a) for a, b in pairwise(roster))
    assert [m for m in roster if PadGraph(roster, b"other").joined(roster[0], m)] != graph.neighbours(roster[0])


def test_a_pad_fills_its_slots_and_no_more() -> None:
    values = np.concatenate([pad(LAYOUT, bytes([i]) * 32) for i in range(200)])
    assert values.max() <= LAYOUT.mask
    assert values.max() > LAYOUT.mask * 0.99


def test_two_to_the_power_w_alone_would_leak_signs_but_pads_hide_them() -> None:
    a, b = keys(2)
    negative = packing.encode(LAYOUT, [-1] * 7, ALPHA)
    assert all(slot > LAYOUT.mask // 2 for slot in negative[:7])
    padded = add_pads(LAYOUT, negative, "h00", [("h01", a.seed("h01", b.public_bytes, b"r"))])
    assert padded.tolist() != negative.tolist()


def test_an_overflowing_report_is_refused() -> None:
    with pytest.raises(SumRefused, match="overflow"):
        packing.unpack([1 << (32 * LAYOUT.slots)], LAYOUT.slots, LAYOUT.slots)


def test_pad_keys_show_and_give_away_nothing() -> None:
    [member] = keys(1)
    assert repr(member) == "PadKeys(h00)"
    with pytest.raises(TypeError):
        pickle.dumps(member)
    with pytest.raises(TypeError):
        copy.deepcopy(member)


def test_long_reports_take_several_plaintexts() -> None:
    layout = Layout(values=288)
    alpha = packing.checksum_coefficients(layout, BEACON)
    values = np.arange(288) - 144
    plaintexts = packing.pack(packing.encode(layout, values, alpha), packing.chunk_slots(3200))
    assert len(plaintexts) == 3
    sums, count = packing.decode(layout, packing.unpack(plaintexts, layout.slots, packing.chunk_slots(3200)), alpha)
    assert (sums.tolist(), count) == (values.tolist(), 1)
