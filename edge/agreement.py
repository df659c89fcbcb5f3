"""What a household has agreed to: its part of the result of a negotiation. A value; it outlives a power cycle (`edge.store`).

How plans follow it is in `edge.schedule.agreed`.
"""

from __future__ import annotations

import math

import msgspec


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """One house's part of what its community agreed in negotiation `number`, interval by interval from `start_s`; the limits where
    envelopes were negotiated too.
    """

    number: int
    start_s: float
    step_s: float
    price_per_kwh: tuple[float, ...]
    net_import_w: tuple[float, ...]
    rho_per_kwh_w: float
    import_limit_w: tuple[float, ...] | None = None
    export_limit_w: tuple[float, ...] | None = None

    @property
    def end_s(self) -> float:
        """When it has run out."""
        return self.start_s + self.step_s * len(self.price_per_kwh)

    def limits_w(self, time_s: float) -> tuple[float | None, float | None]:
        """The import and export limit that were agreed for a time, where they were."""
        place = math.floor((time_s - self.start_s) / self.step_s)
        both = self.import_limit_w, self.export_limit_w
        imports, exports = (None if limits is None or not 0 <= place < len(limits) else limits[place] for limits in both)
        return imports, exports

    def at(self, now_s: float) -> Agreement | None:
        """Itself, until it has run out."""
        return None if now_s >= self.end_s else self
