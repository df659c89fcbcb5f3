"""One encoding of each message, and nothing that a bound forbids."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import codec
from protocols.errors import Malformed
from protocols.messages import (
    AnyMessage,
    ControlResponse,
    DefaultControl,
    EnvelopeControl,
    EnvelopeSchedule,
    FlexibilityDeclaration,
    Forecast,
    Plan,
    ResponseStatus,
    SafetyState,
    Telemetry,
)

CONTROL = EnvelopeControl(mrid="a", creation_time_s=1.0, start_s=2.0, duration_s=3.0, export_limit_w=0.0)
EXAMPLES: list[AnyMessage] = [
    EnvelopeSchedule(sender="coordinator", time_s=1.0, sequence=1, node="h01", controls=(CONTROL,), cancelled=("b",)),
    DefaultControl(sender="coordinator", time_s=1.0, sequence=1, node="h01", mrid="d", export_limit_w=0.0, set_grad_w=0),
    Plan(sender="h01", time_s=1.0, sequence=1, start_s=0.0, step_s=300.0, net_import_w=(1.5, -2.0), soc_frac=None, made_by="rule"),
    Forecast(
        sender="h01", time_s=1.0, sequence=1, quantity="pv", start_s=0.0, step_s=300.0, levels=(0.1, 0.9),
        values_w=((-3.0,), (0.0,)), measured_coverage=None,
    ),
    FlexibilityDeclaration(
        sender="h01", time_s=1.0, sequence=1, start_s=0.0, increase_w=5000.0, decrease_w=0.0, increase_duration_s=3600.0,
        decrease_duration_s=0.0, availability_frac=0.9,
    ),
    ControlResponse(sender="h01", time_s=1.0, sequence=1, mrid="a", status=ResponseStatus.STARTED),
    Telemetry(
        sender="h01", time_s=1.0, sequence=1, start_s=0.0, duration_s=60.0, net_import_w=None, load_w=0.0, pv_w=-1.0,
        battery_w=None, ev_w=None, soc_frac=None, voltage_v=(230.0,), energy_import_wh=1.0, energy_export_wh=None, import_limit_w=0.0,
        export_limit_w=None, exceeded_s=0.0, state=SafetyState.CONTROLLED,
    ),
]  # fmt: skip


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_what_is_encoded_decodes_to_the_same(message: AnyMessage) -> None:
    assert codec.decode(codec.encode(message)) == message


def test_a_zero_limit_is_not_an_absent_limit() -> None:
    [control] = codec.decode(codec.encode(EXAMPLES[0])).controls  # type: ignore[union-attr]
    assert control.export_limit_w == 0.0
    assert control.import_limit_w is msgspec.UNSET


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("export_limit_w", -1.0),
        ("export_limit_w", math.nan),
        ("export_limit_w", math.inf),
        ("duration_s", 0.0),
        ("mrid", ""),
        ("mrid", "\ud800"),
    ],
)
def test_a_sender_cannot_encode_what_a_receiver_would_refuse(field: str, value: object) -> None:
    schedule = EXAMPLES[0]
    bad = msgspec.structs.replace(schedule, controls=(msgspec.structs.replace(CONTROL, **{field: value}),))
    with pytest.raises(Malformed):
        codec.encode(bad)


def test_a_negative_limit_is_refused_by_field_name() -> None:
    payload = codec.encode(EXAMPLES[0]).replace(b'"opModExpLimW":0.0', b'"opModExpLimW":-1.0')
    with pytest.raises(Malformed, match="opModExpLimW"):
        codec.decode(payload)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"sequence":1', b'"sequence": 1'),
        (b'"sequence":1', b'"sequence":1,"sequence":1'),
        (b'"time_s":1.0', b'"time_s":1'),
        (b'"time_s":1.0', b'"time_s":1.00'),
        (b'"sequence":1', b'"sequence":1,"extra":0'),
        (b'"time_s":1.0', b'"time_s":1e999'),
        (b'"time_s":1.0', b'"time_s":NaN'),
    ],
)
def test_any_other_encoding_of_the_same_content_is_refused(old: bytes, new: bytes) -> None:
    payload = codec.encode(EXAMPLES[0])
    assert old in payload
    with pytest.raises(Malformed):
        codec.decode(payload.replace(old, new, 1))


def test_a_payload_beyond_the_limit_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(Malformed, match="at most"):
        codec.decode(b"[" * (codec.MAX_PAYLOAD_BYTES + 1))


@given(st.binary(max_size=300))
def test_no_bytes_crash_the_decoder(data: bytes) -> None:
    with pytest.raises(Malformed):
        codec.decode(data)


@given(st.integers(min_value=1, max_value=60000))
def test_deep_nesting_is_refused(depth: int) -> None:
    with pytest.raises(Malformed):
        codec.decode(b"[" * depth)
