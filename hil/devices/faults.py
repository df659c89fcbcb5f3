"""Faults as data: what goes wrong with one device, when, and how often.

A `FaultPlan` is a value. Applied to a device it acts by the device's own time (that of the plant), so the same plan does the same in
every way of running a scenario. `share` lets a fault hit only a part of the requests; which part is drawn from the seed of the plan
and depends on nothing but the order of the requests to that device.
"""

import enum
import math
import random

import msgspec


class FaultKind(enum.StrEnum):
    """Device faults first, then faults of single frames.

    SILENT: no answer. BUSY: exception 6. ILLEGAL_ADDRESS: exception 2. BUSY_AS_ZERO: reads give zeros, writes are acknowledged and
    lost. STUCK: reads give what they gave when the fault began. NOT_IMPLEMENTED: measurements read as not implemented.
    GARBAGE_REGISTERS: reads give random registers. SLOW: answers come `value` seconds late. REBOOT: the device is off, its
    connections drop, and afterwards it has forgotten its setpoints. SECOND_MASTER: somebody else sets the limit to the share `value`
    of the rating every `period_s`. SETPOINT_LOST: the device falls back to its own setpoint every `period_s`. CONTROL_IGNORED:
    writes are acknowledged and read back, and change nothing.

    DROP, DELAY (by `value` seconds), SPLIT (into two segments), TRUNCATE, GARBAGE_FRAME, WRONG_TRANSACTION, WRONG_UNIT,
    WRONG_LENGTH, CLOSE (the connection, instead of answering), DUPLICATE: what happens to an answer on its way.
    """

    SILENT = "silent"
    BUSY = "busy"
    ILLEGAL_ADDRESS = "illegal_address"
    BUSY_AS_ZERO = "busy_as_zero"
    STUCK = "stuck"
    NOT_IMPLEMENTED = "not_implemented"
    GARBAGE_REGISTERS = "garbage_registers"
    SLOW = "slow"
    REBOOT = "reboot"
    SECOND_MASTER = "second_master"
    SETPOINT_LOST = "setpoint_lost"
    CONTROL_IGNORED = "control_ignored"
    DROP = "drop"
    DELAY = "delay"
    SPLIT = "split"
    TRUNCATE = "truncate"
    GARBAGE_FRAME = "garbage_frame"
    WRONG_TRANSACTION = "wrong_transaction"
    WRONG_UNIT = "wrong_unit"
    WRONG_LENGTH = "wrong_length"
    CLOSE = "close"
    DUPLICATE = "duplicate"

    @property
    def of_frames(self) -> bool:
        """Whether the fault befalls frames on their way, not the device."""
        return self in FRAME_FAULTS


FRAME_FAULTS = frozenset(
    {
        FaultKind.DROP,
        FaultKind.DELAY,
        FaultKind.SPLIT,
        FaultKind.TRUNCATE,
        FaultKind.GARBAGE_FRAME,
        FaultKind.WRONG_TRANSACTION,
        FaultKind.WRONG_UNIT,
        FaultKind.WRONG_LENGTH,
        FaultKind.CLOSE,
        FaultKind.DUPLICATE,
    }
)


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fault in [start_s, start_s + duration_s) of the device's time; `value` and `period_s` as the kind says."""

    kind: FaultKind
    start_s: float
    duration_s: float
    share: float = 1.0
    value: float = 0.0
    period_s: float = 30.0

    @property
    def end_s(self) -> float:
        """The first instant after the fault."""
        return self.start_s + self.duration_s


class FaultPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All faults of one device and the seed of its chances."""

    seed: int = 0
    faults: tuple[Fault, ...] = ()


class FaultState:
    """Which faults of a plan are active now."""

    __slots__ = ("_changes_s", "_due_s", "_plan", "active", "next_change_s", "rng")

    def __init__(self, plan: FaultPlan) -> None:
        self._plan = plan
        self.rng = random.Random(plan.seed)
        self.active: tuple[Fault, ...] = ()
        self._changes_s = sorted({time for fault in plan.faults for time in (fault.start_s, fault.end_s)})
        self._due_s: dict[int, float] = {}
        self.next_change_s = min(self._changes_s, default=math.inf)

    def update(self, now_s: float) -> tuple[list[Fault], list[Fault]]:
        """Recompute the active faults; returns those that have begun and those that have ended since the last update."""
        before = self.active
        self.active = tuple(fault for fault in self._plan.faults if fault.start_s <= now_s < fault.end_s)
        self.next_change_s = next((time for time in self._changes_s if time > now_s), math.inf)
        begun = [fault for fault in self.active if fault not in before]
        ended = [fault for fault in before if fault not in self.active]
        return begun, ended

    def strikes(self, fault: Fault) -> bool:
        """Whether the fault hits this request."""
        return fault.share >= 1.0 or self.rng.random() < fault.share

    def periodic_due(self, now_s: float) -> list[Fault]:
        """The active periodic faults whose next moment has come."""
        due = []
        for fault in self.active:
            if fault.kind not in (FaultKind.SECOND_MASTER, FaultKind.SETPOINT_LOST):
                continue
            if now_s >= self._due_s.get(id(fault), fault.start_s):
                self._due_s[id(fault)] = now_s + fault.period_s
                due.append(fault)
        return due
