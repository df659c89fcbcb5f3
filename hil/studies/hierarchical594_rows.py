"""The rows of study `hierarchical594`."""

from __future__ import annotations

import numpy as np

from coordinator.mechanisms.hierarchical.alone import Alone
from hil.studies.hierarchical594_clearing import Cleared, Judged
from hil.studies.hpk11 import PERIODS, FeederDay
from hil.studies.result import Row

PAPER_SAVING_PCT = 7.5
CLEARING_TARGET_S = 600.0


def _saving_pct(before: float, after: float, fixed: float = 0.0) -> float:
    return 100.0 * (before - after) / (before + fixed)


def bill_rows(cleared: Cleared, alones: dict[int, Alone]) -> list[Row]:
    day = cleared.day
    before = np.concatenate([alones[place].bill for place in cleared.bills])
    after = np.concatenate([bills.bill for bills in cleared.bills.values()])
    unpaid = np.concatenate([bills.bill + bills.service for bills in cleared.bills.values()])
    fixed = day.supply_charge * before.size
    worn = sum(float(day.fleets[place].wear(alones[place].schedule).sum()) for place in cleared.bills)
    worst = min(_saving_pct(float(alones[place].bill.sum()), float(bills.bill.sum()), day.supply_charge * bills.bill.size)
                for place, bills in cleared.bills.items())  # fmt: skip
    saving = _saving_pct(float(before.sum()), float(after.sum()), fixed)
    least = float((before - after).min())
    return [
        Row(
            quantity="members' bills below those without a community [%]",
            paper=PAPER_SAVING_PCT,
            ours=saving,
            target=f">= {PAPER_SAVING_PCT:g}",
            met=saving >= PAPER_SAVING_PCT,
            note=f"with the supply charge, which no community changes; {before.sum() + fixed:,.0f} to {after.sum() + fixed:,.0f} $ a day",
        ),
        Row(
            quantity="the same without payments for services [%]",
            ours=_saving_pct(float(before.sum()), float(unpaid.sum()), fixed),
            note="what trading alone brings; moving for the network is not paid for in it",
        ),
        Row(
            quantity="the same with the wear of batteries as a cost [%]",
            ours=_saving_pct(float(before.sum()) + worn, float(after.sum()) + cleared.clearing.wear, fixed),
            note=f"wear rises from {worn:.0f} to {cleared.clearing.wear:.0f} $ a day",
        ),
        Row(
            quantity="the same, energy alone [%]", ours=_saving_pct(float(before.sum()), float(after.sum())), note="supply charge left out"
        ),
        Row(quantity="the community that gains least [%]", ours=worst, target="> 0", met=worst > 0.0),
        Row(
            quantity="the member that gains least [$ a day]",
            ours=least,
            note=f"{int((before - after < -0.01).sum())} of {before.size} members lose more than a cent",
        ),
        Row(quantity="traded between members of a community [kWh]", ours=sum(bills.traded_wh for bills in cleared.bills.values()) / 1e3),
    ]


def network_rows(day: FeederDay, before: Judged, market: Judged, secure: list[Judged]) -> list[Row]:
    vmin, vmax = day.base.vmin_pu, day.base.vmax_pu
    rows = [
        Row(
            quantity=f"highest voltage, {name} [pu]",
            ours=float(found.highest_pu.max()),
            note=f"lowest {found.lowest_pu.min():.4f}, lines {100 * found.line_frac:.0f} %, "
            f"transformers {100 * found.transformer_frac:.0f} % of rating",
        )
        for name, found in (("no community", before), ("market alone", market))
    ]
    for found in secure:
        high, low = float(found.highest_pu.max()), float(found.lowest_pu.min())
        rows += [
            Row(quantity=f"highest voltage, secure, {found.engine} [pu]", ours=high, target=f"<= {vmax:.4f}", met=high <= vmax),
            Row(quantity=f"lowest voltage, secure, {found.engine} [pu]", ours=low, target=f">= {vmin:.4f}", met=low >= vmin),
            Row(
                quantity=f"worst line, secure, {found.engine} [% of rating]",
                ours=100.0 * found.line_frac,
                target="<= 100",
                met=found.line_frac <= 1.0,
            ),
            Row(
                quantity=f"worst transformer, secure, {found.engine} [% of rating]",
                ours=100.0 * found.transformer_frac,
                target="<= 100",
                met=found.transformer_frac <= 1.0,
            ),
        ]
    return rows


def service_rows(cleared: Cleared) -> list[Row]:
    clearing = cleared.clearing
    moved = np.abs(clearing.service_w)
    energy_kwh = float(moved.sum()) * cleared.day.fleets[0].step_s / 3.6e6
    paid = float(clearing.service_paid.sum())
    peak_kw = float(moved.sum(axis=0).max()) / 1e3
    return [
        Row(
            quantity="grid services, most at once [kW]",
            ours=peak_kw,
            target="> 0",
            met=peak_kw > 0.0,
            note=f"in the half hour from {0.5 * int(moved.sum(axis=0).argmax()):g} h; {int((clearing.service_paid > 0.01).sum())} of "
            f"{len(clearing.names)} communities",
        ),
        Row(quantity="grid services [kWh]", ours=energy_kwh, note="how far communities moved from what the market had contracted"),
        Row(
            quantity="paid for grid services [$]",
            ours=paid,
            target="> 0",
            met=paid > 0.0,
            note=f"{100 * paid / energy_kwh:.1f} cents per kWh in the mean; the least paid community {clearing.service_paid.min():.2f} $",
        ),
    ]


def privacy_rows(cleared: Cleared) -> list[Row]:
    operator, day = cleared.operator, cleared.day
    communities = [day.fleets[place].members for place in cleared.bills]
    ends = sum(len(area.ends) for area in operator.areas)
    behind = [int(area.behind.min()) for area in operator.areas if area.ends]
    fewest = min(*communities, *behind)
    return [
        Row(
            quantity="household figures that the network operator hears",
            ours=0,
            target="0",
            met=all(members >= 2 for members in communities),
            note=f"of {sum(communities)} members, but {len(communities)} net imports, {len(communities)} reactive powers and {ends} "
            "weighted sums an interval: too few to be solved for members",
        ),
        Row(
            quantity="fewest members behind a figure",
            ours=fewest,
            target=">= 10",
            met=fewest >= 10,
            note="on the same feeder; at most one figure for every five members on the same phase",
        ),
    ]


def clearing_rows(cleared: Cleared) -> list[Row]:
    clearing = cleared.clearing
    return [
        Row(
            quantity="clearing 24 h [s]",
            ours=cleared.clearing_s,
            target=f"<= {CLEARING_TARGET_S:g}",
            met=cleared.clearing_s <= CLEARING_TARGET_S,
            note=f"{cleared.clearing_cpu_s:.0f} s of processor time, one thread, all members in this process",
        ),
        Row(
            quantity="rounds",
            ours=cleared.talk.rounds,
            note=f"{clearing.market_rounds} until the market was settled; {cleared.talk.messages} messages, none of them a household's",
        ),
        Row(
            quantity="what prices and quantities disagree about [% of the bill]",
            ours=100.0 * clearing.gap_frac,
            target="<= 0.15",
            met=clearing.gap_frac <= 0.0015,
        ),
    ]


def money_rows(cleared: Cleared, alones: dict[int, Alone]) -> list[Row]:
    """Where the members' gain comes from: who earned it before."""
    day = cleared.day
    kwh = day.fleets[0].kwh_per_w
    nets = [alones[place].net_w for place in cleared.bills]
    total_before = sum((net.sum(axis=0) for net in nets), np.zeros(PERIODS))
    exchanged = cleared.clearing.secure.sums.net_w
    spot_before, spot_after = (float(day.spot_per_kwh @ total) * kwh for total in (total_before, exchanged.sum(axis=0)))
    charged_before = day.network_per_kwh * kwh * sum(float(np.maximum(net, 0.0).sum()) for net in nets)
    charged_after = day.network_per_kwh * kwh * float(np.maximum(exchanged, 0.0).sum())
    paid_before = sum(float(alones[place].bill.sum()) for place in cleared.bills)
    paid_after = sum(bills.to_retailer for bills in cleared.bills.values())
    services = float(cleared.clearing.service_paid.sum())
    return [
        Row(
            quantity="retailer: margin [$], was",
            ours=paid_before - spot_before - charged_before,
            note="retail less feed-in, spot price of the day (AEMO) and network charges",
        ),
        Row(
            quantity="retailer: margin [$], is",
            ours=paid_after - spot_after - charged_after,
            note=f"it keeps {100 * cleared.retailer.share_frac:g} % of the margin between the offers on what communities exchange",
        ),
        Row(
            quantity="network operator: charges less services [$], was",
            ours=charged_before,
            note=f"{100 * day.network_per_kwh:.2f} cents per kWh (AusNet NSP20) of what every meter takes",
        ),
        Row(
            quantity="network operator: charges less services [$], is",
            ours=charged_after - services,
            note="of what communities take from outside: trade among neighbours is assumed to pay no network charge",
        ),
    ]


def sweep_rows(name: str, cleared: Cleared, alones: dict[int, Alone], judged: Judged) -> list[Row]:
    saving = bill_rows(cleared, alones)[0].ours
    low, high = float(judged.lowest_pu.min()), float(judged.highest_pu.max())
    return [
        Row(
            quantity=f"bills below those without a community, {name} [%]",
            ours=saving,
            note=f"voltages {low:.4f} to {high:.4f} pu, services {cleared.clearing.service_paid.sum():,.0f} $, "
            f"{cleared.talk.rounds} rounds",
        )
    ]
