"""What the page shows, as values: for everybody, and for administrators. Pure; see the package for what must not be seen."""

from __future__ import annotations

import math
from typing import Final

from msgspec import Struct

from coordinator.network.model import Network
from coordinator.page.diagram import Diagram
from coordinator.page.estimate import Estimate

MIN_GROUP: Final = 5
NEAR_FRAC: Final = 0.12
"""A voltage in this outer share of the allowed band is near its limit."""

LOADING_STEP_PCT: Final = 5


class Total(Struct, frozen=True, kw_only=True):
    """Sums over the homes that reported; where homes sum in secret, over what each is commanded, and nobody knows the net import."""

    net_import_w: float | None
    import_limit_w: float | None
    export_limit_w: float | None


class Event(Struct, frozen=True, kw_only=True):
    """Something that happened. `who` is empty for the community as a whole; `kind` chooses the sign that is shown."""

    time_s: float
    kind: str
    text: str
    who: str = ""


class Price(Struct, frozen=True, kw_only=True):
    """Prices within the community as the newest negotiation says them; of a `mechanism` that asks homes by name, their mean."""

    start_s: float
    step_s: float
    per_kwh: tuple[float, ...]
    final: bool
    mechanism: str = ""


class Facts(Struct, frozen=True, kw_only=True):
    """What anybody may know and no power flow says. `fed` is whether the page's broker hears that of the homes, `secret` whether homes
    sum in secret and say nothing of their own power."""

    fed: bool
    secret: bool
    homes: int
    reporting: int
    coordinator: str
    reasons: tuple[str, ...]
    term: int | None
    round_name: str | None
    round_state: str
    price: Price | None
    events: tuple[Event, ...]


class PublicView(Struct, frozen=True, kw_only=True):
    """What everybody sees. Levels run from -2 (below the limit) to 2 (above); None where nothing is known or must be."""

    time_s: float
    facts: Facts
    total: Total | None
    levels: tuple[int | None, ...]
    loading_pct: tuple[float | None, ...]


class HomeRow(Struct, frozen=True, kw_only=True):
    """One home, for administrators and for itself. Parts that it does not measure are None."""

    name: str
    bus: int
    state: str
    reasons: tuple[str, ...]
    time_s: float | None = None
    net_import_w: float | None = None
    load_w: float | None = None
    pv_w: float | None = None
    battery_w: float | None = None
    ev_w: float | None = None
    soc_frac: float | None = None
    voltage_v: tuple[float, ...] = ()
    import_limit_w: float | None = None
    export_limit_w: float | None = None


class FeederView(Struct, frozen=True, kw_only=True):
    """What administrators see."""

    time_s: float
    facts: Facts
    leader: str | None
    total: Total | None
    levels: tuple[int | None, ...]
    voltage_v: tuple[float | None, ...]
    loading_pct: tuple[float | None, ...]
    homes: tuple[HomeRow, ...]


def levels(network: Network, diagram: Diagram, estimate: Estimate | None) -> tuple[int | None, ...]:
    """The class of each drawn bus: by the phase that is worst."""
    if estimate is None:
        return (None,) * len(diagram.buses)
    found: list[int | None] = []
    for drawn in diagram.buses:
        nominal_v = float(network.nominal_ln_v[drawn.bus])
        low_pu, high_pu = estimate.low_v[drawn.bus] / nominal_v, estimate.high_v[drawn.bus] / nominal_v
        found.append(_level(low_pu, high_pu, network.vmin_pu, network.vmax_pu))
    return tuple(found)


def _level(low_pu: float, high_pu: float, vmin_pu: float, vmax_pu: float) -> int | None:
    if not (math.isfinite(low_pu) and math.isfinite(high_pu)):
        return None
    near_pu = NEAR_FRAC * (vmax_pu - vmin_pu)
    if high_pu > vmax_pu:
        return 2
    if low_pu < vmin_pu:
        return -2
    if high_pu > vmax_pu - near_pu:
        return 1
    return -1 if low_pu < vmin_pu + near_pu else 0


def worst_voltages_v(network: Network, diagram: Diagram, estimate: Estimate | None) -> tuple[float | None, ...]:
    """Of each drawn bus the phase voltage that is farthest from the middle of the band."""
    if estimate is None:
        return (None,) * len(diagram.buses)
    middle_pu = (network.vmin_pu + network.vmax_pu) / 2.0
    found: list[float | None] = []
    for drawn in diagram.buses:
        middle_v = middle_pu * float(network.nominal_ln_v[drawn.bus])
        pair = float(estimate.low_v[drawn.bus]), float(estimate.high_v[drawn.bus])
        worst_v = max(pair, key=lambda volts: abs(volts - middle_v))
        found.append(round(worst_v, 2) if math.isfinite(worst_v) else None)
    return tuple(found)


def loadings_pct(diagram: Diagram, estimate: Estimate | None, *, group: int) -> tuple[float | None, ...]:
    """Of the branch that feeds each drawn bus the share of its rating; where `group` > 1, in steps and only to so many homes."""
    if estimate is None:
        return (None,) * len(diagram.buses)
    found: list[float | None] = []
    for drawn in diagram.buses:
        if drawn.transformer is not None:
            values = [float(estimate.transformer_frac[drawn.transformer])]
        else:
            values = [float(estimate.line_frac[line]) for line in drawn.lines]
        known = [value for value in values if math.isfinite(value)]
        if not known or drawn.homes_below < group:
            found.append(None)
        elif group > 1:
            found.append(float(LOADING_STEP_PCT * math.ceil(100.0 * max(known) / LOADING_STEP_PCT)))
        else:
            found.append(round(100.0 * max(known), 1))
    return tuple(found)
