"""What the market says to a group of households and what the group answers: prices out, sums at buses in."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.mechanisms.sharing.households import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceSignal:
    """Prices (buses, T) for net import. `barrier`, in price per kWh times kW, says how far from their bounds schedules stay for now; with
    `certify` the group also says how much better than its answer any other could be at these prices.
    """

    price_per_kwh: FloatArray
    barrier: float
    certify: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSums:
    """Sums over a group's households, in watts: net import as scheduled and where it is heading at the signal's prices (buses, T), by how
    much that falls with prices (buses, T, T), and what is left unserved (buses, T). Further what is not met of flexible load, own cost, how
    many bounds schedules have, and how far from best the schedules are at most (None unless asked). `step_frac` is the share of the last
    step that bounds allowed, on average.
    """

    net_w: FloatArray
    aim_w: FloatArray
    slope_w: FloatArray
    unserved_w: FloatArray
    unmet_wh: float
    own_cost: float
    slack_count: int
    step_frac: float
    gap: float | None
