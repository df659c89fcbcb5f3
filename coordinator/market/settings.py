"""Configuration of the mechanism that the coordinator holds with its nodes. Off by default."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from protocols.tariff import PriceWindow, PriceWindows, misplaced, unknown_zone

HeldName = Literal["p2p", "disco", "dfe", "hierarchical"]
"""What can be held live (`coordinator.market.assembly.MAKERS`)."""
MechanismName = Literal["none"] | HeldName


class MarketSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which mechanism, every `period_s`, about the `intervals` of `step_s` ahead; prices are those of the retailer by local time.

    A node that has not answered `patience_s` after it was asked is left out of that negotiation. After `rounds_max` rounds without a
    settlement nothing is agreed. `loss_per_kwh` is what the operator pays for losses, `weight_per_kwh_w` the first weight of a round.
    `margin_pu` is how far inside its voltage limits the network operator of `hierarchical` plans.
    `dfe` keeps margins around plans at `confidence_frac`, for errors of the `errors` kind (`coordinator.mechanisms.dfe.uncertainty`).
    """

    mechanism: MechanismName = "none"
    period_s: Annotated[float, Meta(ge=600.0, le=86400.0)] = 6 * 3600.0
    step_s: Annotated[float, Meta(ge=300.0, le=3600.0)] = 900.0
    intervals: Annotated[int, Meta(ge=4, le=576)] = 96
    patience_s: Annotated[float, Meta(ge=5.0, le=3600.0)] = 60.0
    rounds_max: Annotated[int, Meta(ge=1, le=1000)] = 150
    tolerance_frac: Annotated[float, Meta(gt=0.0, le=0.1)] = 5e-3
    weight_per_kwh_w: Annotated[float, Meta(gt=0.0, le=1.0)] = 1e-4
    confidence_frac: Annotated[float, Meta(ge=0.5, le=0.999)] = 0.9
    errors: Literal["gaussian", "unimodal", "cantelli"] = "gaussian"
    loss_per_kwh: Annotated[float, Meta(ge=0.0, le=20.0)] = 0.1
    margin_pu: Annotated[float, Meta(ge=0.0, le=0.05)] = 0.002
    buy: PriceWindows = (PriceWindow(from_h=0.0, price_per_kwh=0.30),)
    sell: PriceWindows = (PriceWindow(from_h=0.0, price_per_kwh=0.05),)
    timezone: str = "UTC"


def out_of_order(section: MarketSection) -> str | None:
    """When selling would earn more than buying costs, in words: a market could then be milked, so selling is taken to earn that and no
    more (source 002, eq. 4). None where prices are in order.
    """
    hours = sorted({window.from_h for window in (*section.buy, *section.sell)})
    wrong = [hour for hour in hours if _price_at(section.sell, hour) > _price_at(section.buy, hour)]
    if not wrong:
        return None
    named = ", ".join(f"{_price_at(section.sell, hour):g} above {_price_at(section.buy, hour):g} from {hour:g} h" for hour in wrong)
    return f"feed-in is above retail ({named}): selling is taken to earn what buying costs"


def _price_at(windows: PriceWindows, hour: float) -> float:
    return max((window for window in windows if window.from_h <= hour), key=lambda window: window.from_h).price_per_kwh


def check_market(section: MarketSection, *, in_secret: bool) -> str | None:
    """The first relation that does not hold, in words with its path, or None."""
    if section.mechanism != "none" and in_secret:
        return "a mechanism asks every node by name, and aggregation sums in secret: one of them - at $.market.mechanism"
    problem = unknown_zone(section.timezone)
    if problem is not None:
        return f"{problem} - at $.market.timezone"
    for name, windows in (("buy", section.buy), ("sell", section.sell)):
        problem = misplaced(windows)
        if problem is not None:
            return f"{name} {problem} - at $.market.{name}"
    return None
