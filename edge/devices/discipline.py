"""What is written to a device, and when; pure bookkeeping without a request in it.

The rules:

1. A register is written only when the device is not known to hold the value already, or when its reversion timer has to be restarted.
2. An acknowledged write is a claim. It is believed for deduplication until it has been read back, and no longer.
3. A value that was read back as written and differs later was changed. If the control is switched off, if everything is back to what
   it was before our first write, or if the device's own timer had time to run out, the setpoint was lost; otherwise another master has
   set something else. Both are reported, and written again.
4. A write of unknown outcome (a timeout) makes its registers unknown, so they are written again.
5. Writes are counted per day, registers that wear apart from those that do not. The last part of a budget is kept for writes that
   tighten a limit or keep a timer alive.
"""

from collections.abc import Sequence

import msgspec

from edge.devices.mapping import Segment

DAY_S = 86400.0


class DayCount(msgspec.Struct, kw_only=True):
    """Writes of one UTC day. What wears survives a restart: the controller's owner keeps it on its disk."""

    day: int = -1
    spent: int = 0


class WriteBudget:
    """Writes per UTC day; `reserve_frac` of them is kept for urgent ones. `count` is where they are counted."""

    def __init__(self, per_day: int, reserve_frac: float = 0.25, count: DayCount | None = None) -> None:
        self.per_day = per_day
        self.count = DayCount() if count is None else count
        self._open = per_day - round(per_day * reserve_frac)

    @property
    def spent(self) -> int:
        """Writes so far on the day that was last asked about."""
        return self.count.spent

    def allows(self, now_s: float, *, urgent: bool, count: int = 1) -> bool:
        """Whether `count` more writes fit."""
        day = int(now_s // DAY_S)
        if day != self.count.day:
            self.count.day, self.count.spent = day, 0
        return self.count.spent + count <= (self.per_day if urgent else self._open)

    def spend(self, count: int = 1) -> None:
        """Count writes that were sent, whether or not they were acknowledged."""
        self.count.spent += count


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """What a read-back showed: registers that did not take our value, that another master changed, or that lost it (a restart, a timer)."""

    mismatched: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


class WriteLedger:
    """What the device is believed to hold, register by register. `switched_off` are (register, value) that mean "control disabled"."""

    def __init__(self, switched_off: Sequence[tuple[int, int]] = ()) -> None:
        self._switched_off = dict(switched_off)
        self._held: dict[int, int] = {}
        self._original: dict[int, int] = {}
        self._written: dict[int, int] = {}
        self._verified: set[int] = set()
        self._refused: set[int] = set()
        self._refreshed_s: dict[int, float] = {}
        self.last_write_s = float("-inf")
        self.refused_in_a_row = 0
        self.foreign_count = 0
        self.lost_count = 0

    @property
    def unverified(self) -> bool:
        """Whether a write waits for its read-back, or did not pass it."""
        return bool(self._refused) or len(self._verified) < len(self._written)

    def due(self, segments: Sequence[Segment], now_s: float, refresh_after_s: float | None) -> list[Segment]:
        """The segments that have to be written now, in their order."""
        due: list[Segment] = []
        for segment in segments:
            if not self._holds(segment):
                due.append(segment)
                continue
            if self._refused:
                self._refused.difference_update(range(segment.address, segment.end))
            if refresh_after_s is not None and segment.repeats:
                written_s = self._refreshed_s.get(segment.address)
                if written_s is None or now_s - written_s >= refresh_after_s or now_s < written_s:
                    due.append(segment)
        return due

    def acknowledged(self, segment: Segment, now_s: float) -> None:
        """The device says that it took the segment. What it was already seen to hold, and is only repeated, stays verified."""
        held, written = self._held, self._written
        for address, value in enumerate(segment.registers, segment.address):
            held[address] = value
            if written.get(address) != value:
                written[address] = value
                self._verified.discard(address)
        self._refreshed_s[segment.address] = now_s
        self.last_write_s = now_s

    def unknown(self, segment: Segment) -> None:
        """A write ended without an answer: its registers may hold the old or the new value."""
        for address in range(segment.address, segment.end):
            self._held.pop(address, None)
            self._written.pop(address, None)
            self._verified.discard(address)

    def forget(self, switched_off: Sequence[tuple[int, int]] = ()) -> None:
        """The device has another map: nothing that is known about its registers holds any longer."""
        self._switched_off = dict(switched_off)
        self._held.clear()
        self._original.clear()
        self._written.clear()
        self._verified.clear()
        self._refused.clear()
        self._refreshed_s.clear()

    def observe(self, addresses: Sequence[int], values: Sequence[int], *, expired: bool = False) -> Findings | None:
        """Take a read of control registers; `None` when it brought nothing to report.

        `expired` says that the device's own timer has had the time to run out since the last write.
        """
        held, written, verified, refused = self._held, self._written, self._verified, self._refused
        wrong: list[tuple[int, int]] = []
        for address, value in zip(addresses, values, strict=True):
            held[address] = value
            expected = written.get(address)
            if expected is None:
                self._original.setdefault(address, value)
            elif expected == value:
                verified.add(address)
                if refused:
                    refused.discard(address)
            else:
                wrong.append((address, value))
        if not self._refused:
            self.refused_in_a_row = 0
        if not wrong:
            return None
        return self._judge(wrong, expired)

    def _judge(self, wrong: list[tuple[int, int]], expired: bool) -> Findings:
        changed = [(a, v) for a, v in wrong if a in self._verified]
        refused = [(a, v) for a, v in wrong if a not in self._verified]
        lost = expired or any(self._switched_off.get(a) == v for a, v in changed)
        lost = lost or all(self._original.get(a) == v for a, v in changed)
        said = {a: f"register {a} holds {v}, written was {self._written[a]}" for a, v in wrong}
        if refused:
            self.refused_in_a_row += 1
            self._refused.update(address for address, _ in refused)
        if changed and lost:
            self.lost_count += 1
        elif changed:
            self.foreign_count += 1
        for address, _ in wrong:
            self._written.pop(address)
            self._verified.discard(address)
        texts = tuple(said[a] for a, _ in changed)
        return Findings(
            mismatched=tuple(said[a] for a, _ in refused),
            foreign=() if lost else texts,
            lost=texts if lost else (),
        )

    def _holds(self, segment: Segment) -> bool:
        held = self._held
        address = segment.address
        for value in segment.registers:
            if held.get(address) != value:
                return False
            address += 1
        return True
