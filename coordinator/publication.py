"""Which controls are out, and what may be said next. Pure; the rules that keep a rolling schedule legal.

1. Controls lie on a grid of intervals of equal length, from the interval that holds now to the horizon, so consecutive publications
   overlap and leave no gap. An interval without a control is one in which the default holds.
2. Messages may be late or lost, so a node may follow any control that was ever sent to it for an interval, or its default. A new box for an
   interval must therefore *contain* the default and everything outstanding: `floor` is what the computation has to grant at least. Then
   every mixture of old and new controls lies inside a verified box.
3. A control is superseded, and no longer outstanding, once the node has acknowledged a newer one for the same interval.
4. Unchanged means silent: a node whose limits grew by no more than the deadband keeps its control, which lies inside the new box too.
   A limit that shrinks is always sent.
5. A control is immutable. A changed one has a new mRID and a newer creation time, which supersedes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import msgspec

from coordinator.demand import LimitPair
from protocols.messages import EnvelopeControl, Guarantee


class Published(msgspec.Struct, kw_only=True):
    """Everything outstanding for one node and interval, oldest first; the last is the one that should hold."""

    controls: list[EnvelopeControl]

    @property
    def newest(self) -> EnvelopeControl:
        """The control that should hold."""
        return self.controls[-1]


class Ledger:
    """Controls that are out, by interval and node."""

    def __init__(self, nodes: Iterable[str], *, interval_s: float, horizon_s: float, deadband_w: float, primacy: int) -> None:
        self._nodes = tuple(nodes)
        self._interval_s = interval_s
        self._count = round(horizon_s / interval_s)
        self._deadband_w = deadband_w
        self._primacy = primacy
        self._published: dict[float, dict[str, Published]] = {}

    def starts(self, now_s: float) -> list[float]:
        """Begin of every interval of the horizon, the one that holds `now_s` first."""
        first = math.floor(now_s / self._interval_s) * self._interval_s
        return [first + index * self._interval_s for index in range(self._count)]

    def floor(self, start_s: float, node: str, default: LimitPair) -> LimitPair:
        """What a new box must contain for this node: its default and every outstanding control."""
        pair = default
        published = self._published.get(start_s, {}).get(node)
        for control in () if published is None else published.controls:
            pair = pair.covering(limits_of(control))
        return pair

    def accept(self, start_s: float, limits: Mapping[str, LimitPair], guarantee: Guarantee, now_s: float) -> dict[str, EnvelopeControl]:
        """Take a verified box for an interval; return the controls that have to be sent, by node."""
        changed: dict[str, EnvelopeControl] = {}
        interval = self._published.setdefault(start_s, {})
        for index, node in enumerate(self._nodes):
            pair = limits.get(node)
            if pair is None:
                continue
            published = interval.get(node)
            if published is not None and self._keeps(published.newest, pair, guarantee):
                continue
            control = EnvelopeControl(
                mrid=f"{node[:30]}-{index}-{int(start_s)}-{int(now_s * 1000.0)}",
                creation_time_s=now_s,
                start_s=start_s,
                duration_s=self._interval_s,
                primacy=self._primacy,
                export_limit_w=pair.export_w,
                import_limit_w=pair.import_w,
                guarantee=guarantee,
            )
            _append(interval.setdefault(node, Published(controls=[])), control)
            changed[node] = control
        return changed

    def pending(self, node: str, now_s: float) -> tuple[EnvelopeControl, ...]:
        """The controls of one node that should hold from now on, in order of time."""
        return tuple(
            interval[node].newest
            for start_s, interval in sorted(self._published.items())
            if node in interval and start_s + self._interval_s > now_s
        )

    def published(self, start_s: float) -> bool:
        """Whether every node has a control for the interval."""
        return len(self._published.get(start_s, {})) == len(self._nodes)

    def covered_until_s(self, now_s: float) -> float:
        """End of the last interval up to which every node has controls without a gap; `now_s` where there are none."""
        until_s = now_s
        for start_s in self.starts(now_s):
            if not self.published(start_s):
                break
            until_s = start_s + self._interval_s
        return until_s

    def acknowledge(self, node: str, mrid: str) -> None:
        """A node has this control, so what is older for the same interval is superseded there."""
        for interval in self._published.values():
            published = interval.get(node)
            if published is None:
                continue
            position = next((at for at, control in enumerate(published.controls) if control.mrid == mrid), None)
            if position is not None:
                del published.controls[:position]
                return

    def restore(self, controls: Iterable[tuple[str, EnvelopeControl]]) -> None:
        """Take back what an earlier run published, in any order. Controls off the present grid, or of unknown nodes, are left out."""
        for node, control in sorted(controls, key=lambda item: item[1].creation_time_s):
            on_grid = control.start_s % self._interval_s == 0.0 and control.duration_s == self._interval_s
            if on_grid and node in self._nodes:
                interval = self._published.setdefault(control.start_s, {})
                _append(interval.setdefault(node, Published(controls=[])), control)

    def forget(self, now_s: float) -> None:
        """Drop intervals that are over."""
        for start_s in [start_s for start_s in self._published if start_s + self._interval_s <= now_s]:
            del self._published[start_s]

    def _keeps(self, control: EnvelopeControl, pair: LimitPair, guarantee: Guarantee) -> bool:
        old = limits_of(control)
        grown = pair.import_w - old.import_w, pair.export_w - old.export_w
        return control.guarantee is guarantee and all(0.0 <= more_w <= self._deadband_w for more_w in grown)


def _append(published: Published, control: EnvelopeControl) -> None:
    """Add a control; those that lie inside it no longer matter to what is outstanding."""
    pair = limits_of(control)
    published.controls = [older for older in published.controls if pair.covering(limits_of(older)) != pair]
    published.controls.append(control)


def limits_of(control: EnvelopeControl) -> LimitPair:
    """The limits of a control of ours, which always states both."""
    assert isinstance(control.import_limit_w, float) and isinstance(control.export_limit_w, float)
    return LimitPair(import_w=control.import_limit_w, export_w=control.export_limit_w)
