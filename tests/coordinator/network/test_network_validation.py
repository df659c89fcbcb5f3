"""Every error of a network is found, all of them at once, and a valid network has none."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from coordinator.network.model import Bus, Connection, Line, Network, NetworkKind, Shunt, Source, Transformer
from coordinator.network.validate import validate

R3 = ((0.1, 0.02, 0.02), (0.02, 0.1, 0.02), (0.02, 0.02, 0.1))
X3 = ((0.05, 0.01, 0.01), (0.01, 0.05, 0.01), (0.01, 0.01, 0.05))
MV_LN_V = 11000.0 / math.sqrt(3.0)


def street(**changes: Any) -> Network:
    """A transformer, a street of two nodes and a house on phase 2."""
    network = Network(
        name="street",
        kind=NetworkKind.UNBALANCED,
        frequency_hz=50.0,
        buses=(
            Bus(id="mv", nominal_ln_v=MV_LN_V),
            Bus(id="lv", nominal_ln_v=230.0),
            Bus(id="pole", nominal_ln_v=230.0),
            Bus(id="house", nominal_ln_v=230.0, phases=(2,)),
        ),
        sources=(Source(bus="mv", r1_ohm=0.1, x1_ohm=0.4, r0_ohm=0.1, x0_ohm=0.4),),
        lines=(
            Line(id="main", from_bus="lv", to_bus="pole", r_ohm=R3, x_ohm=X3, ampacity_a=200.0),
            Line(id="service", from_bus="pole", to_bus="house", phases=(2,), r_ohm=((0.02,),), x_ohm=((0.001,),)),
        ),
        transformers=(
            Transformer(id="tx", from_bus="mv", to_bus="lv", rated_va=2e5, from_ll_v=11000.0, to_ll_v=400.0, r_frac=0.01, x_frac=0.04),
        ),
        connections=(Connection(id="home", bus="house", phases=(2,), p_w=3000.0, q_var=500.0),),
        vmin_pu=0.94,
        vmax_pu=1.10,
    )
    return msgspec.structs.replace(network, **changes)


def line(**changes: Any) -> Line:
    return msgspec.structs.replace(street().lines[0], **changes)


def codes(network: Network, *, require_radial: bool = False) -> set[str]:
    return {finding.code for finding in validate(network, require_radial=require_radial)}


def test_a_good_network_has_no_findings() -> None:
    assert validate(street(), require_radial=True) == []


@pytest.mark.parametrize(
    ("changes", "code", "names"),
    [
        ({"sources": ()}, "no-source", "street"),
        ({"sources": (Source(bus="mv"), Source(bus="lv"))}, "several-sources", "mv, lv"),
        ({"sources": (Source(bus="nowhere"),)}, "unknown-bus", "nowhere"),
        ({"sources": (Source(bus="mv", r1_ohm=0.1, x1_ohm=0.1),)}, "zero-impedance", "mv"),
        ({"sources": (Source(bus="mv", voltage_pu=math.nan),)}, "not-finite", "voltage_pu"),
        ({"buses": (*street().buses, Bus(id="lv", nominal_ln_v=230.0))}, "duplicate-id", "lv"),
        ({"buses": (*street().buses, Bus(id="island", nominal_ln_v=230.0))}, "disconnected", "island"),
        ({"buses": (*street().buses[:3], Bus(id="house", nominal_ln_v=230.0))}, "disconnected-phase", "1, 3"),
        ({"buses": ()}, "empty", "street"),
        ({"lines": (line(to_bus="gone"), street().lines[1])}, "unknown-bus", "gone"),
        ({"lines": (line(to_bus="lv"), street().lines[1])}, "self-loop", "lv"),
        ({"lines": (line(ampacity_a=0.0), street().lines[1])}, "not-positive", "ampacity_a"),
        ({"lines": (line(r_ohm=((-0.1, 0, 0), (0, 0.1, 0), (0, 0, 0.1))), street().lines[1])}, "negative-impedance", "main"),
        ({"lines": (line(r_ohm=((0.0,) * 3,) * 3, x_ohm=((0.0,) * 3,) * 3), street().lines[1])}, "zero-impedance", "main"),
        ({"lines": (line(r_ohm=((math.nan,) * 3,) * 3), street().lines[1])}, "not-finite", "r_ohm"),
        ({"lines": (line(r_ohm=((0.1,),)), street().lines[1])}, "bad-matrix", "3 x 3"),
        ({"lines": (line(r_ohm=((0.1, 0.02, 0.0), (0.0, 0.1, 0.0), (0.0, 0.0, 0.1))), street().lines[1])}, "bad-matrix", "symmetric"),
        ({"lines": (line(phases=(2, 1, 3)), street().lines[1])}, "bad-phases", "ascending"),
        ({"lines": (*street().lines, line(id="x", from_bus="pole", to_bus="house"))}, "missing-phase", "1, 3"),
        ({"lines": (*street().lines, line(id="x", from_bus="mv", to_bus="pole"))}, "voltage-mismatch", "230"),
        ({"connections": (Connection(id="c", bus="house", phases=(1,)),)}, "missing-phase", "phase 1"),
        ({"connections": (Connection(id="c", bus="gone"),)}, "unknown-bus", "gone"),
        ({"connections": (Connection(id="c", bus="lv", p_w=math.inf),)}, "not-finite", "p_w"),
        ({"connections": (Connection(id="c", bus="lv", power_factor=0.0),)}, "bad-power-factor", "0.0"),
        ({"shunts": (Shunt(id="s", bus="gone", b_siemens=1e-3),)}, "unknown-bus", "gone"),
        ({"vmin_pu": 1.2}, "bad-limits", "vmin_pu"),
        ({"frequency_hz": 0.0}, "bad-frequency", "frequency_hz"),
    ],
)  # fmt: skip
def test_each_mistake_is_named(changes: dict[str, Any], code: str, names: str) -> None:
    findings = [finding for finding in validate(street(**changes)) if finding.code == code]
    assert any(names in str(finding) for finding in findings), [str(finding) for finding in validate(street(**changes))]


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("to_ll_v", 6600.0, "voltage-mismatch"),
        ("from_ll_v", 400.0, "voltage-mismatch"),
        ("rated_va", 0.0, "not-positive"),
        ("x_frac", 0.0, "zero-impedance"),
        ("r_frac", -0.1, "negative-impedance"),
        ("from_tap_frac", 3.0, "bad-tap"),
        ("vector_group", "Yzn5", "unknown-vector-group"),
    ],
)
def test_a_transformer_that_does_not_fit_is_named(field: str, value: object, code: str) -> None:
    wrong = msgspec.structs.replace(street().transformers[0], **{field: value})
    assert code in codes(street(transformers=(wrong,)))


def test_a_loop_is_wrong_only_where_a_radial_feeder_is_needed() -> None:
    looped = street(lines=(*street().lines, line(id="second")))
    assert codes(looped) == set()
    assert [finding.where for finding in validate(looped, require_radial=True)] == ["line second"]


def test_an_open_tie_closes_no_loop() -> None:
    tie = line(id="tie", in_service=False, is_switchable=True)
    assert tie.is_tie
    assert validate(street(lines=(*street().lines, tie)), require_radial=True) == []


def test_all_mistakes_are_reported_at_once() -> None:
    network = street(
        sources=(),
        lines=(line(ampacity_a=-1.0, to_bus="gone"),),
        connections=(Connection(id="c", bus="house", phases=(1,)), Connection(id="c", bus="house", phases=(2,))),
        vmin_pu=2.0,
    )
    assert {"no-source", "not-positive", "unknown-bus", "missing-phase", "duplicate-id", "bad-limits"} <= codes(network)
