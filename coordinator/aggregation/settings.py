"""Configuration of aggregation rounds at the coordinator. Off by default."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from protocols.tariff import PriceWindow, PriceWindows, misplaced, unknown_zone

FilePath = Annotated[str, Meta(min_length=1, max_length=1000)]


class NegotiationSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The community's negotiation (`protocols.negotiation`), which is held every `period_s` where `iterations_max` > 0.

    `buy` and `sell` are what the community's retailer asks and pays, by the local time of `timezone`. The limits are the community's at
    the feeder's head; without them they are what its transformer carries at the power factor assumed of its homes. `tolerance_w` is how
    far a member's part may be from agreement; as much of the limits is kept back for all members together.
    """

    iterations_max: Annotated[int, Meta(ge=0, le=1000)] = 0
    period_s: Annotated[float, Meta(ge=60.0, le=86400.0)] = 3600.0
    buy: PriceWindows = (PriceWindow(from_h=0.0, price_per_kwh=0.30),)
    sell: PriceWindows = (PriceWindow(from_h=0.0, price_per_kwh=0.05),)
    timezone: str = "UTC"
    import_limit_w: Annotated[float, Meta(gt=0.0, le=1e9)] | None = None
    export_limit_w: Annotated[float, Meta(gt=0.0, le=1e9)] | None = None
    rho_per_kwh_w: Annotated[float, Meta(gt=0.0, le=1.0)] = 1e-4
    tolerance_w: Annotated[float, Meta(gt=0.0, le=10e3)] = 50.0


class AggregationSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """With `enabled`, demand comes from the community's sums alone; nothing that a single household says about its power is used.

    `key_file` holds the Paillier keys, encrypted under the passphrase in `passphrase_file` (mode 0600). A key lives for `key_life_s`, and
    the next one is published `key_overlap_s` before its end. The first epoch begins when every node has joined, or after `founding_s` with
    at least `members_min`; it begins anew after `epoch_s` with fresh reputations, and whenever a batch of members waits.
    Sums are used for `sums_hold_s` after the beginning of their first interval, then demand is the rating again.
    A member's part of a sum is not known, so its demand is taken as `concentration` times its share by rating.
    When an epoch is over, the share `settlement_share` of its reports is opened (`protocols.aggregation.settlement`); 0 opens none.
    """

    enabled: bool = False
    key_file: FilePath = "aggregation.key"
    passphrase_file: FilePath = "aggregation.passphrase"
    key_bits: Annotated[int, Meta(ge=1024, le=16384)] = 3200
    key_life_s: Annotated[float, Meta(ge=600.0, le=366 * 86400.0)] = 30 * 86400.0
    key_overlap_s: Annotated[float, Meta(ge=60.0, le=30 * 86400.0)] = 3600.0
    values: Annotated[int, Meta(ge=96, le=4096)] = 96
    pad_bits: Annotated[int, Meta(ge=16, le=31)] = 24
    members_max: Annotated[int, Meta(ge=2, le=4096)] = 192
    members_min: Annotated[int, Meta(ge=3, le=4096)] = 10
    founding_s: Annotated[float, Meta(ge=0.0, le=30 * 86400.0)] = 600.0
    epoch_s: Annotated[float, Meta(ge=600.0, le=366 * 86400.0)] = 86400.0
    reputation_min: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.4
    concentration: Annotated[float, Meta(ge=1.0, le=1000.0)] = 4.0
    settlement_share: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.01
    sums_hold_s: Annotated[float, Meta(ge=60.0, le=86400.0)] = 7200.0
    negotiation: NegotiationSection = NegotiationSection()


def check_section(section: AggregationSection) -> str | None:
    """The first relation that does not hold, in words with its path, or None."""
    if (section.members_max + 1) << section.pad_bits > 1 << 32:
        return (
            f"members_max ({section.members_max}) with pad_bits ({section.pad_bits}) would carry between slots"
            " - at $.aggregation.members_max"
        )
    if section.members_min > section.members_max:
        return f"members_min ({section.members_min}) exceeds members_max ({section.members_max}) - at $.aggregation.members_min"
    if section.key_overlap_s >= section.key_life_s:
        return (
            f"key_overlap_s ({section.key_overlap_s:g}) must be below key_life_s ({section.key_life_s:g})"
            " - at $.aggregation.key_overlap_s"
        )
    return _bad_negotiation(section.negotiation)


def _bad_negotiation(section: NegotiationSection) -> str | None:
    problem = unknown_zone(section.timezone)
    if problem is not None:
        return f"{problem} - at $.aggregation.negotiation.timezone"
    for name, windows in (("buy", section.buy), ("sell", section.sell)):
        problem = misplaced(windows)
        if problem is not None:
            return f"{name} {problem} - at $.aggregation.negotiation.{name}"
    return None
