"""What a household has agreed to: its part of the result of a negotiation. A value; it outlives a power cycle (`edge.store`).

How plans follow it is in `edge.schedule.agreed`.
"""

from __future__ import annotations

import msgspec


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """One house's part of what its community agreed in negotiation `number`, interval by interval from `start_s`."""

    number: int
    start_s: float
    step_s: float
    price_per_kwh: tuple[float, ...]
    net_import_w: tuple[float, ...]
    rho_per_kwh_w: float

    @property
    def end_s(self) -> float:
        """When it has run out."""
        return self.start_s + self.step_s * len(self.price_per_kwh)

    def at(self, now_s: float) -> Agreement | None:
        """Itself, until it has run out."""
        return None if now_s >= self.end_s else self
