"""Messages as rows of the store. Pure: one function per table."""

from __future__ import annotations

from typing import Any

import msgspec

from coordinator.envelopes.certificate import EnvelopeResult
from coordinator.publication import limits_of
from protocols.messages import ControlResponse, EnvelopeControl, Guarantee, Message, Telemetry

TELEMETRY_FIELDS = (
    "start_s", "duration_s", "net_import_w", "load_w", "pv_w", "battery_w", "ev_w", "soc_frac", "energy_import_wh", "energy_export_wh",
    "import_limit_w", "export_limit_w", "exceeded_s",
)  # fmt: skip


def telemetry_row(message: Telemetry, received_s: float) -> dict[str, Any]:
    """Row of `store.telemetry`; an unmeasured part stays null."""
    voltages = [*message.voltage_v, None, None, None]
    return {
        **_identity(message, received_s),
        **{name: getattr(message, name) for name in TELEMETRY_FIELDS},
        "voltage_1_v": voltages[0],
        "voltage_2_v": voltages[1],
        "voltage_3_v": voltages[2],
        "state": message.state.value,
    }


def response_row(message: ControlResponse, received_s: float) -> dict[str, Any]:
    """Row of `store.responses`."""
    return {
        **_identity(message, received_s),
        "mrid": message.mrid,
        "status": int(message.status),
        "reason": message.reason,
    }


def message_row(kind: str, message: Message, received_s: float) -> dict[str, Any]:
    """Row of `store.messages`."""
    return {"kind": kind, **_identity(message, received_s), "body_json": msgspec.json.encode(message).decode("utf-8")}


def control_row(node: str, control: EnvelopeControl) -> dict[str, Any]:
    """Row of `store.controls`."""
    pair = limits_of(control)
    return {
        "mrid": control.mrid,
        "node": node,
        "creation_time_s": control.creation_time_s,
        "start_s": control.start_s,
        "duration_s": control.duration_s,
        "primacy": control.primacy,
        "export_limit_w": pair.export_w,
        "import_limit_w": pair.import_w,
        "guarantee": control.guarantee.value,
    }


def control_of(row: dict[str, Any]) -> tuple[str, EnvelopeControl]:
    """The node and control of a row of `store.controls`."""
    control = EnvelopeControl(
        mrid=row["mrid"],
        creation_time_s=row["creation_time_s"],
        start_s=row["start_s"],
        duration_s=row["duration_s"],
        primacy=row["primacy"],
        export_limit_w=row["export_limit_w"],
        import_limit_w=row["import_limit_w"],
        guarantee=Guarantee(row["guarantee"]),
    )
    return row["node"], control


def envelope_row(result: EnvelopeResult, start_s: float, duration_s: float, computed_s: float) -> dict[str, Any]:
    """Row of `store.envelopes`, with the certificate that allowed the box to be published."""
    return {
        "start_s": start_s,
        "computed_s": computed_s,
        "duration_s": duration_s,
        "rule": result.rule.value,
        "guarantee": result.guarantee.value,
        "certificate_json": msgspec.json.encode(result.certificate).decode("utf-8"),
    }


def _identity(message: Message, received_s: float) -> dict[str, Any]:
    return {"node": message.sender, "sequence": message.sequence, "time_s": message.time_s, "received_s": received_s}
