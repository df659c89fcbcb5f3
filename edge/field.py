"""All devices of one household at once: read everything, write everything, let no device stop another. A shell.

A failure of one device, whatever it is, is that device's trouble in that cycle: it is kept in its watch and the others go on. The
meter is asked a second time before it counts as silent; a setpoint that was refused is offered a second time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

from edge.devices.discipline import DayCount
from edge.devices.driver import Device
from edge.errors import DeviceError, DeviceTimeout, DeviceUnreachable
from edge.values import DeviceKind, Setpoint, WriteOutcome, WriteStatus
from edge.watch import DeviceWatch

log = logging.getLogger(__name__)


class Field:
    """The devices and their watches."""

    def __init__(
        self, devices: Sequence[Device], watches: Mapping[str, DeviceWatch], *, response_s: float, stale_after_s: float, concurrent: bool
    ) -> None:
        self._devices = tuple(devices)
        self._by_name = {device.name: device for device in devices}
        self._watches = watches
        self._response_s = response_s
        self._stale_after_s = stale_after_s
        self._concurrent = concurrent and len(self._devices) > 1
        self.foreign_masters = 0
        self.notes: dict[str, str] = {}

    async def read(self, now_s: float) -> None:
        """Read every device into its watch."""
        if self._concurrent:
            await asyncio.gather(*(self._read_one(device, now_s) for device in self._devices))
        else:
            for device in self._devices:
                await self._read_one(device, now_s)

    async def write(self, setpoints: Sequence[Setpoint], now_s: float) -> frozenset[str]:
        """Write every setpoint; returns the names of the devices that did not take theirs."""
        if self._concurrent and len(setpoints) > 1:
            taken: Sequence[bool] = await asyncio.gather(*(self._write_one(setpoint, now_s) for setpoint in setpoints))
        else:
            taken = [await self._write_one(setpoint, now_s) for setpoint in setpoints]
        return frozenset(setpoint.name for setpoint, ok in zip(setpoints, taken, strict=True) if not ok)

    async def close(self) -> None:
        """Give all sessions back."""
        for device in self._devices:
            try:
                await device.close()
            except (DeviceError, OSError) as error:
                log.info("%s: closing: %s", device.name, error)

    async def _read_one(self, device: Device, now_s: float) -> None:
        watch = self._watches[device.name]
        attempts = 2 if device.kind is DeviceKind.METER else 1
        for _ in range(attempts):
            try:
                reading = await device.read(now_s)
            except (DeviceTimeout, DeviceUnreachable, OSError) as error:
                watch.miss(str(error), reachable=False)
            except Exception as error:  # whatever a driver does wrong is its device's trouble alone
                watch.miss(f"{type(error).__name__}: {error}", reachable=True)
                if not isinstance(error, DeviceError):
                    log.exception("%s: the driver failed", device.name)
            else:
                watch.observe(reading, now_s, response_s=self._response_s, stale_after_s=self._stale_after_s)
                if watch.reading is not None:
                    return
        if watch.silent_cycles == attempts:
            log.warning("%s: %s", device.name, watch.trouble)

    async def _write_one(self, setpoint: Setpoint, now_s: float) -> bool:
        device = self._by_name[setpoint.name]
        watch = self._watches[setpoint.name]
        for attempt in range(2):
            try:
                outcome = await device.write(setpoint, now_s)
            except (DeviceTimeout, DeviceUnreachable, OSError) as error:
                self.notes[setpoint.name] = f"setpoint not taken: {error}"
                return False
            except DeviceError as error:
                self.notes[setpoint.name] = f"setpoint not taken: {error}"
                if attempt == 1:
                    return False
            except Exception as error:  # as above
                self.notes[setpoint.name] = f"setpoint not taken: {type(error).__name__}: {error}"
                log.exception("%s: the driver failed", setpoint.name)
                return False
            else:
                return self._note(outcome, setpoint, watch, now_s)
        return False

    def _note(self, outcome: WriteOutcome, setpoint: Setpoint, watch: DeviceWatch, now_s: float) -> bool:
        if outcome.foreign_master:
            self.foreign_masters += 1
            log.warning("%s: another master commands it too: %s", outcome.name, outcome.detail)
        taken = outcome.status in (WriteStatus.WRITTEN, WriteStatus.UNCHANGED)
        if taken:
            watch.accept(setpoint, now_s, reverts=outcome.reverts)
        if outcome.foreign_master:
            self.notes[outcome.name] = f"another master commands it too: {outcome.detail}"
        elif taken and outcome.reverts:
            self.notes.pop(outcome.name, None)
        else:
            self.notes[outcome.name] = outcome.detail or outcome.status.value
        return taken


def resumed_wear(devices: Sequence[Device], kept: Mapping[str, DayCount]) -> dict[str, DayCount]:
    """The devices' own counts, set to what the disk remembers of them."""
    for device in devices:
        count = kept.get(device.name)
        if count is not None:
            device.wear.day, device.wear.spent = count.day, count.spent
    return {device.name: device.wear for device in devices}
