"""The price that a mechanism offers or has agreed, from what the coordinator asks each home. Pure.

Each home has its own price; what is shown is their mean, and only over as many homes as hide each of them.
"""

from __future__ import annotations

from statistics import fmean

from coordinator.page.views import Price
from protocols.messages import MarketAsk


class Bargain:
    """The newest round of the newest negotiation; `group` is the fewest homes that are shown together."""

    def __init__(self, group: int) -> None:
        self._group = group
        self._at = (-1, -1, False)
        self._asks: dict[str, MarketAsk] = {}
        self._price: Price | None = None

    def take(self, ask: MarketAsk) -> bool:
        """One ask; whether it belongs to the newest round, or opens one."""
        at = (ask.negotiation, ask.round, ask.final)
        if at < self._at:
            return False
        if at > self._at:
            self._at, self._asks = at, {}
        self._asks[ask.node] = ask
        if ask.final and not ask.agreed:
            self._price = None
        elif len(self._asks) >= self._group and all(len(a.price_per_kwh) == len(ask.price_per_kwh) for a in self._asks.values()):
            columns = zip(*(a.price_per_kwh for a in self._asks.values()), strict=True)
            self._price = Price(
                start_s=ask.start_s,
                step_s=ask.step_s,
                per_kwh=tuple(round(fmean(column), 5) for column in columns),
                final=ask.final,
                mechanism=ask.mechanism,
            )
        return True

    @property
    def price(self) -> Price | None:
        """What is offered or agreed; None before the first negotiation, and after one that agreed on nothing."""
        return self._price
