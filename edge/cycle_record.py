"""What one control cycle leaves for whoever watches it: logs, metrics, the bench."""

from __future__ import annotations

import msgspec

from edge.envelope_control import Outcome
from edge.limits import NO_LIMITS, LimitSet
from edge.values import Reading, Setpoint
from protocols.messages import SafetyState


class CycleRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What one cycle saw and did. `blind`: any load was assumed. `limits` are those that the guard obeyed, the tightest of the
    seconds ahead, `in_force` those of the controls now; `refusals` are messages and devices in words, `conditions` names of what holds
    beside the state, `troubles` devices that are silent or deaf. `failed`: the cycle broke off, and only safe setpoints were written.
    `duration_s` is what it took."""

    time_s: float
    state: SafetyState
    blind: bool
    reasons: tuple[str, ...]
    limits: LimitSet
    setpoints: tuple[Setpoint, ...]
    readings: tuple[Reading, ...]
    net_import_w: float | None
    refusals: tuple[str, ...]
    export_breach_w: float = 0.0
    import_breach_w: float = 0.0
    in_force: LimitSet = NO_LIMITS
    outcomes: tuple[Outcome, ...] = ()
    conditions: tuple[str, ...] = ()
    troubles: tuple[str, ...] = ()
    foreign_masters: int = 0
    plan_start_s: float | None = None
    duration_s: float = 0.0
    failed: bool = False
