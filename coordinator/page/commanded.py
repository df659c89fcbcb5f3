"""What the coordinator commands each home, from its own messages. Pure.

Where homes sum in secret they tell no power and no limits; what they must keep is said to them openly, and so the page can show the
community's envelope all the same. Of several controls that are active the one of lower primacy holds, then the newer one, in each
direction by itself (IEEE 2030.5, 10.10.4.4; CSIP-AUS); where none is, the default holds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec import UNSET, UnsetType

from protocols.messages import DefaultControl, EnvelopeControl, EnvelopeSchedule

KEPT: Final = 512
"""Controls of one node that are remembered; the newest ones."""

Limit = float | None


class Commanded:
    """See the module."""

    def __init__(self) -> None:
        self._controls: dict[str, dict[str, EnvelopeControl]] = {}
        self._default: dict[str, DefaultControl] = {}

    def take(self, content: EnvelopeSchedule | DefaultControl) -> None:
        """One message of the coordinator; a control that it does not mention stays in force."""
        if isinstance(content, DefaultControl):
            self._default[content.node] = content
            return
        known = self._controls.setdefault(content.node, {})
        known.update((control.mrid, control) for control in content.controls)
        for mrid in content.cancelled:
            known.pop(mrid, None)
        for mrid in [mrid for mrid, control in known.items() if control.start_s + control.duration_s <= content.time_s]:
            del known[mrid]
        while len(known) > KEPT:
            del known[next(iter(known))]

    def limits(self, node: str, now_s: float) -> tuple[Limit, Limit]:
        """(import limit, export limit) of a node at a moment; None where nothing is said."""
        active = [c for c in self._controls.get(node, {}).values() if c.start_s <= now_s < c.start_s + c.duration_s]
        active.sort(key=lambda control: (control.primacy, -control.creation_time_s))
        default = self._default.get(node)
        return (
            _first(active, default, lambda control: control.import_limit_w),
            _first(active, default, lambda control: control.export_limit_w),
        )


def _first(
    active: list[EnvelopeControl],
    default: DefaultControl | None,
    limit_of: Callable[[EnvelopeControl | DefaultControl], float | UnsetType],
) -> Limit:
    for control in (*active, *(() if default is None else (default,))):
        limit_w = limit_of(control)
        if limit_w is not UNSET:
            return limit_w
    return None
