"""Every figure that an edge exports. Devices are named by kind and number (`pv_1`), never by the words of a configuration."""

from __future__ import annotations

from typing import Final

from edge.limits import LimitSet
from edge.values import DeviceKind
from protocols.messages import ResponseStatus, SafetyState
from protocols.observation.book import FamilyMaker

PREFIX: Final = "commonwatt_edge"
CYCLE_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
STATES: Final = (SafetyState.FAILSAFE, SafetyState.DEFAULT, SafetyState.CONTROLLED)
CONDITIONS: Final = ("blind", "clock_suspect", "islanded", "store_failing")
SOURCES: Final = ("rating", "contract", "failsafe", "default", "control", "held")
DIRECTIONS: Final = {"export": "export", "import": "import_"}
"""Label of a limit, and its field in `LimitSet`."""

OUTCOMES: Final = {status: status.name.lower() for status in ResponseStatus}
REFUSALS: Final = (
    "bad_signature", "fenced", "invalid_control", "malformed", "other", "replayed", "stale", "unknown_sender", "unsigned",
)  # fmt: skip

assert all(field in LimitSet.__struct_fields__ for field in DIRECTIONS.values())

family: Final = FamilyMaker(PREFIX, CYCLE_BUCKETS)
FAMILIES: Final = (
    family("build_info", "info", "Version, community and node."),
    family("cycles_total", "counter", "Control cycles by outcome: done or failed.", "outcome"),
    family("cycles_missed_total", "counter", "Beginnings of control cycles that were skipped because a cycle took too long."),
    family("cycle_duration_seconds", "histogram", "Time from the beginning of a control cycle to its end."),
    family("last_cycle_timestamp_seconds", "gauge", "Unix time of the newest control cycle."),
    family("safety_state", "gauge", "1 for the state of the safety machine that holds: failsafe, default or controlled.", "state"),
    family(
        "condition",
        "gauge",
        "1 while it holds: blind (any load is assumed), clock_suspect, islanded (coordinator not heard), store_failing.",
        "condition",
    ),
    family("net_import_watts", "gauge", "Net import at the connection point; negative while exporting. Not a number while unknown."),
    family("voltage_volts", "gauge", "Voltage of each phase at the connection point.", "phase"),
    family("meter_age_seconds", "gauge", "Age of the newest believed reading of the meter."),
    family("device_power_watts", "gauge", "Power into each device; a producing PV system is negative.", "device"),
    family("device_up", "gauge", "1 if the device gave a reading that is believed in the newest cycle.", "device"),
    family("battery_soc_ratio", "gauge", "State of charge.", "device"),
    family("energy_imported_joules_total", "counter", "Energy imported since this process began, by the meter's own count."),
    family("energy_exported_joules_total", "counter", "Energy exported since this process began, by the meter's own count."),
    family("limit_watts", "gauge", "Limit in force at the connection point, as a magnitude.", "direction"),
    family("limit_source", "gauge", "1 for the stage that set the limit in force.", "direction", "source"),
    family(
        "envelope_exceeded_seconds_total",
        "counter",
        "Time in which the measured net import was outside the limits by more than 4 % of rating or 100 W, whichever is less.",
        "direction",
    ),
    family(
        "breach_watts", "gauge", "By how much the guard expects the limit to be broken although it did everything it may.", "direction"
    ),
    family("controls_total", "counter", "Controls by what became of them (Response.status of IEEE 2030.5).", "outcome"),
    family("messages_refused_total", "counter", "Messages that broke a rule of trust or of the scheduler.", "reason"),
    family("messages_dropped_total", "counter", "Messages lost to full queues, to expiry while the broker was away, or unreadable."),
    family("broker_connected", "gauge", "1 while the broker is connected."),
    family("broker_sessions_total", "counter", "How often the connection to the broker came up."),
    family("foreign_master_total", "counter", "How often a device held a setpoint that this edge had not written."),
    family("plan_age_seconds", "gauge", "Time since the beginning of the plan in use."),
    family("certificate_expiry_timestamp_seconds", "gauge", "Unix time at which the certificate expires.", "certificate"),
    family("leader", "gauge", "1 while this household leads its community. Not a number where it takes no part in one."),
    family("leader_known", "gauge", "1 while a leader was proven and heard within two leases. Not a number without a community."),
    family("leader_term", "gauge", "Term of the leader that is followed."),
    family("rounds_total", "counter", "Rounds that this household led: opened, failed. Reports refused count as refused.", "outcome"),
)
KINDS: Final = tuple(kind.value for kind in DeviceKind)
