"""Applies drawn faults: those of devices as plans that the devices follow, the others at the cycle in which they are due."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from hil.devices.faults import Fault as DeviceFault
from hil.devices.faults import FaultKind as DeviceFaultKind
from hil.devices.faults import FaultPlan as DeviceFaultPlan
from hil.faults import Fault, FaultPlan
from hil.world import Home

SECOND_MASTER_PERIOD_S = 30.0
FOREIGN_SHARE = {"pv": 1.0, "battery": -1.0, "ev": 1.0, "p2": 0.0, "tank": 1.0, "meter": 0.0}
"""What a second master asks of a device, as a share of its rating: the worst for the envelope that is plausible for the kind."""

_DEVICE_KINDS = {
    "modbus_timeout": DeviceFaultKind.SILENT,
    "modbus_exception_6": DeviceFaultKind.BUSY,
    "stuck_value": DeviceFaultKind.STUCK,
    "not_implemented": DeviceFaultKind.NOT_IMPLEMENTED,
    "device_reboot": DeviceFaultKind.REBOOT,
    "second_master": DeviceFaultKind.SECOND_MASTER,
}


def install_device_faults(plan: FaultPlan, homes: Sequence[Home], seed: int) -> None:
    """Hand every device the faults that are meant for it."""
    wanted: dict[str, list[DeviceFault]] = {}
    for fault in plan.faults:
        kind = _DEVICE_KINDS.get(fault.kind)
        if kind is not None:
            assert fault.device is not None
            wanted.setdefault(fault.target, []).append(
                DeviceFault(
                    kind=kind,
                    start_s=fault.start_s,
                    duration_s=fault.duration_s,
                    value=FOREIGN_SHARE[fault.device],
                    period_s=SECOND_MASTER_PERIOD_S,
                )
            )
    for home in homes:
        for device in home.devices.values():
            faults = wanted.get(f"{home.name}/{device.name}")
            if faults is not None:
                device.apply_faults(DeviceFaultPlan(seed=zlib.crc32(f"{seed}/{home.name}/{device.name}".encode()), faults=tuple(faults)))


class Calendar:
    """The faults that the run itself applies, handed out as they begin and end."""

    def __init__(self, plan: FaultPlan) -> None:
        own = [fault for fault in plan.faults if fault.kind not in _DEVICE_KINDS]
        changes = [(fault.start_s, 1, fault) for fault in own] + [(fault.end_s, 0, fault) for fault in own]
        # At one instant what ends comes before what begins.
        self._changes = sorted(changes, key=lambda change: (change[0], change[1], change[2].kind, change[2].target))
        self._next = 0

    def due(self, now_s: float) -> list[tuple[Fault, bool]]:
        """(fault, whether it begins) for everything up to `now_s` that was not handed out yet, in order of time."""
        found = []
        while self._next < len(self._changes) and self._changes[self._next][0] <= now_s + 1e-6:
            _, begins, fault = self._changes[self._next]
            found.append((fault, begins == 1))
            self._next += 1
        return found
