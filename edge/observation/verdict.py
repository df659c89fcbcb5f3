"""Whether one household's controller does its work, and what is wrong where it does not. Pure."""

from __future__ import annotations

import msgspec

from edge.config import EdgeConfig
from edge.correspondence import SOFTWARE
from edge.cycle_record import CycleRecord
from protocols.messages import SafetyState
from protocols.observation.health import Check, Health, Verdict, credential_check, judged, measured

CYCLES_LATE = 3.0
"""A cycle that is this many cycle times late (and at least 5 s) is not controlling any more."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to judge. `meter_s` is when the meter was last believed; `leader_heard` is None outside a community."""

    now_s: float
    record: CycleRecord | None
    meter_s: float | None
    connected: bool
    expiries: dict[str, float]
    leader_heard: bool | None


def edge_health(config: EdgeConfig, seen: Seen) -> Health:
    """The verdict: `fail` where the house is not controlled inside limits that somebody set, `warn` where something is not as it should."""
    record, control = seen.record, config.control
    cycle_age_s = None if record is None else seen.now_s - record.time_s
    meter_age_s = None if seen.meter_s is None else seen.now_s - seen.meter_s
    late_s = max(CYCLES_LATE * control.cycle_s, 5.0)
    checks = [
        measured("cycle:age", cycle_age_s, "s", warn_above=0.5 * late_s, fail_above=late_s, words="the control cycle is not running"),
        measured(
            "meter:age",
            meter_age_s,
            "s",
            warn_above=min(late_s, control.stale_after_s),
            fail_above=control.stale_after_s,
            words="the meter gives no reading that can be believed",
        ),
        judged("broker:connected", seen.connected, "the broker cannot be reached; what was sent ahead runs on, then the default holds"),
        *(credential_check(f"certificate:{name}", expires_s, seen.now_s) for name, expires_s in sorted(seen.expiries.items())),
    ]
    if seen.leader_heard is not None:
        checks.append(judged("community:leader", seen.leader_heard, "no leader is known"))
    if record is not None:
        checks += _checks_of(record, coordinated=control.mode == "coordinated")
    identity = config.identity
    return Health(
        service=f"{identity.community}/{identity.node}",
        description="controller of one household",
        version=SOFTWARE,
        time_s=seen.now_s,
        checks=tuple(checks),
    )


def _checks_of(record: CycleRecord, *, coordinated: bool) -> list[Check]:
    failsafe = record.state is SafetyState.FAILSAFE
    reasons = "; ".join(record.reasons)
    controlled = record.state is SafetyState.CONTROLLED or not coordinated
    state = Verdict.FAIL if failsafe else Verdict.PASS if controlled else Verdict.WARN
    words = f"{record.state.value}: {reasons if reasons else 'no control is active'}"
    breach_w = max(record.export_breach_w, record.import_breach_w)
    checks = [
        Check(name="safety:state", verdict=state, words="" if state is Verdict.PASS else words),
        measured("envelope:breach", breach_w, "W", warn_above=0.0, words="the limit cannot be kept with what the devices may do"),
        *(judged(f"condition:{name}", False, "it holds") for name in record.conditions if name != "blind"),
    ]
    if record.failed:
        checks.append(judged("cycle:completed", False, reasons, otherwise=Verdict.FAIL))
    checks += [judged("device:responding", False, words) for words in record.troubles]
    return checks
