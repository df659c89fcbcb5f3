"""The one driver of every device: reads by its map, writes by the write discipline, believes nothing that it has not read.

A device is found on its first read, and looked for again whenever its map turns out to have changed, so a device that is absent at
start-up, restarts, or gets a new firmware is an incident of that device alone. Setpoints are read back with the next read of their
registers: with the read of the next cycle where they share a request with the measurement, or where the last one was not found as
written, else after `readback_s`, and at once when the measured power shows that the device does not keep its limit.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from edge.devices.discipline import DayCount, WriteBudget, WriteLedger
from edge.devices.mapping import Capabilities, DeviceMap, Numbers, ReadPlan, Segment, Wanted
from edge.devices.transport import FieldbusClient, RegisterClient
from edge.errors import DeviceError, DeviceGarbage, DeviceNotVerified, DeviceTimeout, DeviceUnreachable
from edge.values import DeviceKind, Reading, Setpoint, WriteOutcome, WriteStatus

REFUSALS_UNTIL_FAILED = 3
REWRITE_REFUSED_S = 30.0
LIMIT_TOLERANCE_FRAC = 0.02
LIMIT_TOLERANCE_W = 50.0


class Device(Protocol):
    """What the control cycle sees of a device; failures are subclasses of `edge.errors.DeviceError`."""

    @property
    def name(self) -> str:
        """The name in the configuration."""

    @property
    def kind(self) -> DeviceKind:
        """Which part of the household it is."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can do; nothing before it has been reached once."""

    @property
    def wear(self) -> DayCount:
        """Today's writes to registers that wear; whoever has kept it over a restart sets it."""

    async def read(self, now_s: float) -> Reading:
        """One measurement, with what was read back of the setpoint."""

    async def write(self, setpoint: Setpoint, now_s: float) -> WriteOutcome:
        """Make the device hold the setpoint, with as few writes as possible."""

    async def close(self) -> None:
        """Give the session back."""


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How often what is not measured every cycle is read, and how much may be written.

    `readback_s` bounds how long an acknowledged setpoint may stay unconfirmed, `slow_s` is the period of setpoints and state of
    charge otherwise, `rare_s` that of ratings.
    """

    slow_s: float = 30.0
    readback_s: float = 5.0
    rare_s: float = 900.0
    writes_per_day: int = 200_000
    wearing_writes_per_day: int = 200


class RegisterDevice:
    """A device behind a register client; `find_map` discovers it (SunSpec) or returns the map of its profile."""

    def __init__(
        self,
        name: str,
        kind: DeviceKind,
        client: RegisterClient,
        unit: int,
        find_map: Callable[[RegisterClient, int], Awaitable[DeviceMap]],
        pace: Pace | None = None,
        *,
        heartbeat: bool = False,
    ) -> None:
        self.name = name
        self.kind = kind
        self.ledger = WriteLedger()
        self.requests = 0
        self._client = client
        self._unit = unit
        self._find_map = find_map
        self._pace = pace or Pace()
        self._map: DeviceMap | None = None
        self._numbers: Numbers = {}
        self._slow_due_s = self._rare_due_s = self._rewrite_s = float("-inf")
        self._evidence_s = self._slow_read_s = float("-inf")
        self._evidence_wait_s = self._pace.readback_s
        self._wanted: Wanted | None = None
        self._budget = WriteBudget(self._pace.writes_per_day)
        self.wear = DayCount()
        self._wearing_budget = WriteBudget(self._pace.wearing_writes_per_day, count=self.wear)
        self._alarms: tuple[str, ...] = ()
        self._foreign = False
        self._beats = heartbeat
        self._beat = -1

    @property
    def capabilities(self) -> Capabilities:
        """What the device can do; nothing before it has been reached once."""
        return Capabilities(notes=("not reached yet",)) if self._map is None else self._map.capabilities

    @property
    def identity(self) -> str:
        """Manufacturer, model and serial number as the device tells them."""
        return "" if self._map is None else self._map.identity

    @property
    def foreign_count(self) -> int:
        """How often another master has changed our setpoint."""
        return self.ledger.foreign_count

    def numbers(self) -> Numbers:
        """Every number last read, by its name in the map; for people who look at the device."""
        return dict(self._numbers)

    async def read(self, now_s: float) -> Reading:
        """Measure; raises a `DeviceError` when there is no measurement, never returns an old one as new."""
        try:
            device_map = self._map if self._map is not None else await self._find(now_s)
            for plan in device_map.fast:
                await self._take(plan, now_s)
            self._check_headers(device_map)
            trouble: tuple[str, ...] = ()
            if now_s >= self._slow_due_s or now_s >= self._rare_due_s:
                trouble = await self._read_slow(device_map, now_s)
            reading = device_map.interpret(self.name, now_s, self._numbers)
            if self._suspicious(device_map, reading, now_s):
                await self._look_again(device_map, now_s)
                reading = device_map.interpret(self.name, now_s, self._numbers)
            if self._beats:
                trouble = (*trouble, *await self._show_life(device_map, now_s))
        except DeviceError as error:
            error.device = error.device or self.name
            raise
        if trouble or self._alarms:
            reading = msgspec.structs.replace(reading, alarms=(*reading.alarms, *trouble, *self._alarms))
        return reading

    async def write(self, setpoint: Setpoint, now_s: float) -> WriteOutcome:
        """Write what is due; raises `DeviceNotVerified` when the device has repeatedly acknowledged and not taken the setpoint."""
        if self._map is None:
            raise DeviceUnreachable(f"{self.name}: cannot be commanded before it has been read", device=self.name)
        if self._map.control is None:
            return WriteOutcome(name=self.name, status=WriteStatus.NOT_SUPPORTED, reverts=False, detail="the device takes no setpoint")
        try:
            wanted = self._map.control(setpoint, self._numbers)
            if not wanted.segments:
                return WriteOutcome(name=self.name, status=WriteStatus.NOT_SUPPORTED, reverts=False, detail=wanted.detail)
            return await self._write(wanted, now_s)
        except DeviceError as error:
            error.device = error.device or self.name
            raise

    async def close(self) -> None:
        """Give the session back."""
        await self._client.close()

    async def _find(self, now_s: float) -> DeviceMap:
        self._numbers.clear()
        device_map = await self._find_map(self._client, self._unit)
        self.ledger.forget(device_map.switched_off)
        self._slow_due_s = self._rare_due_s = now_s
        self._wanted = None
        self._map = device_map
        return device_map

    async def _take(self, plan: ReadPlan, now_s: float) -> None:
        block = plan.block
        self.requests += 1
        if plan.function == 3:
            registers = await self._client.read_holding(self._unit, block.start, block.count)
        else:
            registers = await fieldbus(self._client).read_input(self._unit, block.start, block.count)
        if len(registers) != block.count:
            raise DeviceGarbage(f"{self.name}: asked for {block.count} registers at {block.start}, got {len(registers)}")
        self._numbers.update(zip(plan.names, plan.decode(registers), strict=True))
        if plan.gather_controls is not None:
            self._read_back(plan, plan.gather_controls(registers), now_s)

    def _read_back(self, plan: ReadPlan, values: tuple[int, ...], now_s: float) -> None:
        timer_s = None if self._wanted is None else self._wanted.expires_after_s
        expired = timer_s is not None and now_s - self.ledger.last_write_s >= timer_s
        findings = self.ledger.observe(plan.controls, values, expired=expired)
        if findings is None:
            if self._alarms and not self.ledger.unverified:
                self._alarms = ()
            self._foreign = False
            return
        alarms: list[str] = []
        if findings.mismatched:
            alarms.append(f"setpoint not taken: {'; '.join(findings.mismatched)}")
        if findings.foreign:
            self._foreign = True
            alarms.append(f"another master ({self.ledger.foreign_count} times): {'; '.join(findings.foreign)}")
        if findings.lost:
            why = "its timer ran out" if expired else "the device restarted, or somebody switched it off"
            alarms.append(f"setpoint lost, {why} ({self.ledger.lost_count} times): {'; '.join(findings.lost)}")
        self._alarms = tuple(alarms)

    def _check_headers(self, device_map: DeviceMap) -> None:
        for name, expected in device_map.headers:
            found = self._numbers.get(name)
            if found != expected and name in self._numbers:
                self._map = None
                raise DeviceGarbage(f"{self.name}: expected model {expected} at its register, found {found}: the map has changed")

    async def _read_slow(self, device_map: DeviceMap, now_s: float) -> tuple[str, ...]:
        """Read what is due besides the measurement. Its failure is told, but does not take the measurement away."""
        trouble: list[str] = []
        if now_s >= self._slow_due_s:
            trouble += await self._take_all(device_map.slow, now_s)
            self._slow_due_s = now_s + self._pace.slow_s
            self._slow_read_s = now_s
        if now_s >= self._rare_due_s:
            trouble += await self._take_all(device_map.rare, now_s)
            self._rare_due_s = now_s + self._pace.rare_s
        return tuple(trouble)

    async def _take_all(self, plans: tuple[ReadPlan, ...], now_s: float) -> list[str]:
        trouble: list[str] = []
        for plan in plans:
            try:
                await self._take(plan, now_s)
            except (DeviceTimeout, DeviceUnreachable):
                raise
            except DeviceError as error:
                for name in plan.names:
                    self._numbers[name] = None
                trouble.append(str(error))
        return trouble

    async def _show_life(self, device_map: DeviceMap, now_s: float) -> tuple[str, ...]:
        """Count up the seconds where the device looks for its controller; the clock goes on counting over a restart."""
        if device_map.heartbeat is None:
            return ("the device has no controller heartbeat: models 715 and 802 do not implement it",)
        address, size = device_map.heartbeat
        beat = int(now_s) % (0xFFFF if size == 1 else 0xFFFFFFFF)
        if beat == self._beat:
            return ()
        self.requests += 1
        try:
            await self._client.write_holding(self._unit, address, [beat] if size == 1 else [beat >> 16, beat & 0xFFFF])
        except (DeviceTimeout, DeviceUnreachable):
            raise
        except DeviceError as error:
            return (f"heartbeat not taken: {error}",)
        self._beat = beat
        return ()

    def _suspicious(self, device_map: DeviceMap, reading: Reading, now_s: float) -> bool:
        """Whether the measured power breaks the limit that the device is believed to hold, and a look at its registers is due."""
        wanted = self._wanted
        if wanted is None or wanted.effective_w is None or not device_map.slow:
            return False
        if now_s == self._slow_read_s or now_s < self._evidence_s + self._evidence_wait_s:
            return False
        rated_w = 0.0 if reading.rated_w is None else reading.rated_w
        tolerance_w = max(LIMIT_TOLERANCE_W, LIMIT_TOLERANCE_FRAC * rated_w)
        if not breaks(self.kind, reading.power_w, wanted.effective_w, tolerance_w):
            self._evidence_wait_s = self._pace.readback_s
            return False
        return True

    async def _look_again(self, device_map: DeviceMap, now_s: float) -> None:
        """Read the setpoint registers at once.

        A device may have a reason to break its limit (a full battery does not charge), so looks that find the setpoint in place become
        rarer. One that finds another master does not delay the next: who has come once comes again.
        """
        await self._take_all(device_map.slow, now_s)
        if not self._alarms:
            self._evidence_s = now_s
            self._evidence_wait_s = min(2 * self._evidence_wait_s, max(self._pace.slow_s, self._pace.readback_s))

    async def _write(self, wanted: Wanted, now_s: float) -> WriteOutcome:
        foreign, self._foreign = self._foreign, False
        due = self.ledger.due(wanted.segments, now_s, wanted.refresh_after_s)
        failed = self.ledger.refused_in_a_row >= REFUSALS_UNTIL_FAILED
        if failed and now_s < self._rewrite_s:
            raise DeviceNotVerified(f"{self.name}: {'; '.join(self._alarms) or 'the setpoint was not taken'}", device=self.name)
        status = WriteStatus.UNCHANGED
        if due:
            if not self._afford(due, now_s, urgent=self._tightens(wanted)):
                detail = f"{self._budget.spent} and {self._wearing_budget.spent} writes today"
                return self._outcome(wanted, WriteStatus.BUDGET_SPENT, foreign, detail)
            for segment in due:
                await self._send(segment, now_s)
            status = WriteStatus.WRITTEN
            self._rewrite_s = now_s + REWRITE_REFUSED_S
            if self.ledger.unverified:
                self._slow_due_s = min(self._slow_due_s, now_s if self._alarms else now_s + self._pace.readback_s)
        self._wanted = wanted
        return self._outcome(wanted, status, foreign, "")

    async def _send(self, segment: Segment, now_s: float) -> None:
        budget = self._wearing_budget if segment.nonvolatile else self._budget
        self.requests += 1
        try:
            budget.spend()
            if segment.single:
                for address, value in enumerate(segment.registers, segment.address):
                    await fieldbus(self._client).write_single(self._unit, address, value)
            else:
                await self._client.write_holding(self._unit, segment.address, segment.registers)
        except DeviceError:
            self.ledger.unknown(segment)
            self._slow_due_s = float("-inf")
            raise
        self.ledger.acknowledged(segment, now_s)

    def _afford(self, due: list[Segment], now_s: float, *, urgent: bool) -> bool:
        wearing = 0
        for segment in due:
            wearing += segment.nonvolatile
        enough = self._budget.allows(now_s, urgent=urgent, count=len(due) - wearing)
        return enough and self._wearing_budget.allows(now_s, urgent=urgent, count=wearing)

    def _tightens(self, wanted: Wanted) -> bool:
        """Whether a write makes the device do less than before, or only keeps it where it is."""
        before = self._wanted
        if before is None or wanted.effective_w == before.effective_w:
            return True
        if wanted.effective_w is None:
            return False
        return before.effective_w is None or abs(wanted.effective_w) < abs(before.effective_w)

    def _outcome(self, wanted: Wanted, status: WriteStatus, foreign: bool, detail: str) -> WriteOutcome:
        verified = status is WriteStatus.UNCHANGED and not self.ledger.unverified
        if detail or wanted.detail or self._alarms:
            detail = "; ".join(text for text in (detail, wanted.detail, *self._alarms) if text)
        return WriteOutcome(
            name=self.name, status=status, verified=verified, foreign_master=foreign, reverts=wanted.reverts, detail=detail
        )


def breaks(kind: DeviceKind, power_w: float, effective_w: float, tolerance_w: float) -> bool:
    """Whether a measured power contradicts the setpoint: a battery off its power, anything else above its limit."""
    if kind is DeviceKind.BATTERY:
        return abs(power_w - effective_w) > tolerance_w
    return abs(power_w) > effective_w + tolerance_w


def fieldbus(client: RegisterClient) -> FieldbusClient:
    """The client with functions 4 and 6; `DeviceError` when it has only 3 and 16."""
    if not (hasattr(client, "read_input") and hasattr(client, "write_single")):
        raise DeviceError("this connection offers functions 3 and 16 only, the profile needs 4 or 6")
    return client  # type: ignore[return-value]
