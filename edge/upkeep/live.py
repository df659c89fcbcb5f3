"""The present state of a running edge as one value, for whoever asks. Pure apart from the agent that it looks at.

The view costs nothing in a cycle but keeping its record; the value is built when somebody asks for it.
"""

from __future__ import annotations

import os
from typing import Final

import msgspec

from edge.agent import EdgeAgent
from edge.correspondence import SOFTWARE
from edge.cycle_record import CycleRecord
from edge.limits import LimitSet
from edge.values import DeviceKind, Reading, Setpoint
from protocols.messages import DefaultControl, SafetyState

MOST_BYTES: Final = 256 * 1024


class LiveDevice(msgspec.Struct, frozen=True, kw_only=True):
    """One device: its last believed reading, its last setpoint, how many cycles it has been silent for, and its trouble in words."""

    name: str
    kind: DeviceKind
    reading: Reading | None = None
    setpoint: Setpoint | None = None
    silent_cycles: int = 0
    trouble: str = ""


class LiveControls(msgspec.Struct, frozen=True, kw_only=True):
    """The controls that are known: how many wait or hold, until when they reach (None without any), and the default."""

    count: int = 0
    until_s: float | None = None
    default: DefaultControl | None = None


class LiveState(msgspec.Struct, frozen=True, kw_only=True):
    """What a running edge sees and does. Times are Unix seconds; `coordinator_silent_s` is how long the coordinator was not heard."""

    software: str
    community: str
    node: str
    pid: int
    started_s: float
    time_s: float
    cycle_s: float
    cycles: int
    failed_cycles: int
    state: SafetyState
    reasons: tuple[str, ...]
    net_import_w: float | None
    limits: LimitSet
    devices: tuple[LiveDevice, ...]
    controls: LiveControls
    broker: str
    connected: bool
    coordinator_silent_s: float | None
    plan_until_s: float | None


class LiveView:
    """Observes an agent's cycles. `state` is None before the first one has ended."""

    def __init__(self, agent: EdgeAgent, *, started_s: float) -> None:
        self._agent = agent
        self._started_s = started_s
        self._record: CycleRecord | None = None
        self._cycles = 0
        self._failed = 0

    def observe(self, record: CycleRecord) -> None:
        """Keep the record of a cycle."""
        self._record = record
        self._cycles += 1
        self._failed += record.failed

    def state(self) -> LiveState | None:
        """The present state."""
        record, agent = self._record, self._agent
        if record is None:
            return None
        identity, broker = agent.config.identity, agent.config.broker
        return LiveState(
            software=SOFTWARE,
            community=identity.community,
            node=identity.node,
            pid=os.getpid(),
            started_s=self._started_s,
            time_s=record.time_s,
            cycle_s=agent.config.control.cycle_s,
            cycles=self._cycles,
            failed_cycles=self._failed,
            state=record.state,
            reasons=record.reasons,
            net_import_w=record.net_import_w,
            limits=record.limits,
            devices=tuple(
                LiveDevice(
                    name=watch.name,
                    kind=watch.kind,
                    reading=watch.last_reading,
                    setpoint=watch.commanded,
                    silent_cycles=watch.silent_cycles,
                    trouble=watch.trouble,
                )
                for watch in agent.watches
            ),
            controls=controls_known(agent),
            broker=f"{broker.host}:{broker.port}",
            connected=agent.bus.connected,
            coordinator_silent_s=agent.coordinator_silent_s,
            plan_until_s=agent.plan_until_s,
        )


def controls_known(agent: EdgeAgent) -> LiveControls:
    """The controls and the default that the agent holds."""
    state = agent.control_state
    ends_s = [pending.control.start_s + pending.control.duration_s for pending in state.pending if not pending.cancelled]
    return LiveControls(count=len(ends_s), until_s=max(ends_s, default=None), default=state.default)

