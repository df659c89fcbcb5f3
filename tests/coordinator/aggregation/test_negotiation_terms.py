"""What a community negotiates about comes from its tariff and its feeder, not from constants."""

from __future__ import annotations

from pathlib import Path

import pytest

import hil.networks
from coordinator.aggregation.bargain import Bargain
from coordinator.aggregation.head import head_limits_w
from coordinator.aggregation.settings import NegotiationSection
from coordinator.aggregation.sums import Curve, VirtualUnit
from coordinator.config import CoordinatorConfig, EnvelopesSection, FeederSection, IdentitySection, NodeSection, decode_config
from coordinator.errors import ConfigError
from coordinator.network.cases import load
from coordinator.network.validate import require_valid
from protocols.tariff import PriceWindow

STREET = Path(hil.networks.__file__).parent / "street"
NOON_S = 1_736_812_800.0 + 3600.0
"""14 January 2025, 12:00 in a zone eleven hours ahead of UTC."""

BUY = (
    PriceWindow(from_h=0.0, price_per_kwh=0.08),
    PriceWindow(from_h=4.0, price_per_kwh=0.25),
    PriceWindow(from_h=15.0, price_per_kwh=0.42),
    PriceWindow(from_h=21.0, price_per_kwh=0.25),
)
SELL = (PriceWindow(from_h=0.0, price_per_kwh=0.12),)


def planned(count: int) -> VirtualUnit:
    return VirtualUnit(plan=Curve(round_name="1:1", start_s=NOON_S, step_s=900.0, count=count, values_w=(0,) * 96))


def opened(section: NegotiationSection, limits_w: tuple[float, float], count: int = 30) -> Bargain:
    bargain = Bargain(section, limits_w)
    assert bargain.due(NOON_S, planned(count), 1) is not None
    return bargain


def test_prices_are_those_of_the_retailer_at_the_local_time_of_each_interval() -> None:
    section = NegotiationSection(iterations_max=9, buy=BUY, sell=SELL, timezone="Etc/GMT-11")
    transcript = opened(section, (1e6, 1e6)).transcript
    assert transcript is not None and transcript.start_s == NOON_S
    assert transcript.retail_per_kwh == (0.25,) * 12 + (0.42,) * 24 + (0.25,) * 12 + (0.08,) * 16 + (0.25,) * 32


def test_where_selling_would_pay_more_than_buying_costs_it_earns_what_buying_costs() -> None:
    """Otherwise the bill of the community is not convex, and sharing could not pay (Li et al. 2026, equation (4))."""
    section = NegotiationSection(iterations_max=9, buy=BUY, sell=SELL, timezone="Etc/GMT-11")
    transcript = opened(section, (1e6, 1e6)).transcript
    assert transcript is not None
    assert transcript.feed_in_per_kwh == (0.12,) * 48 + (0.08,) * 16 + (0.12,) * 32


def test_as_much_of_the_limits_is_kept_back_as_all_members_may_be_off_when_they_have_agreed() -> None:
    transcript = opened(NegotiationSection(iterations_max=9, tolerance_w=40.0), (50_000.0, 900.0), count=30).transcript
    assert transcript is not None
    assert (transcript.import_limit_w, transcript.export_limit_w) == (48_800.0, 0.0)


def test_a_configured_limit_goes_before_that_of_the_network() -> None:
    bargain = Bargain(NegotiationSection(iterations_max=9, import_limit_w=20_000.0), (50_000.0, 60_000.0))
    assert bargain.limits_w == (20_000.0, 60_000.0)


def test_a_second_negotiation_has_a_higher_number_also_after_a_restart() -> None:
    section = NegotiationSection(iterations_max=9, period_s=3600.0)
    first = opened(section, (1e6, 1e6))
    again = Bargain(section, (1e6, 1e6))
    assert again.due(NOON_S + 10.0, planned(30), 1) is not None
    assert first.transcript is not None and again.transcript is not None
    assert again.transcript.number > first.transcript.number


def coordinator(count: int, rating_w: float, *, frac: float = 1.0) -> CoordinatorConfig:
    names = [connection.id for connection in require_valid(load(str(STREET))).connections[:count]]
    return CoordinatorConfig(
        identity=IdentitySection(community="c"),
        feeder=FeederSection(network=str(STREET), transformer_rating_frac=frac),
        nodes=tuple(
            NodeSection(name=f"n{index}", connection=name, import_rating_w=rating_w, export_rating_w=rating_w)
            for index, name in enumerate(names)
        ),
        envelopes=EnvelopesSection(q_per_w=0.2),
    )


def test_the_limit_of_the_street_is_what_its_transformer_carries_at_the_assumed_power_factor() -> None:
    """160 kVA at q = 0.2 p: p = S / sqrt(1 + 0.2^2)."""
    network = require_valid(load(str(STREET)))
    assert head_limits_w(coordinator(30, 14_000.0, frac=0.96), network) == pytest.approx((150_613.0,) * 2, rel=1e-4)


def test_connections_without_a_node_take_their_part_of_it() -> None:
    network = require_valid(load(str(STREET)))
    import_w, export_w = head_limits_w(coordinator(20, 14_000.0), network)
    assert import_w == pytest.approx(160e3 / 1.04**0.5 - 10 * 1000.0, rel=1e-4)
    assert export_w == pytest.approx(160e3 / 1.04**0.5, rel=1e-4)


def test_a_community_cannot_use_more_than_its_connections_carry() -> None:
    network = require_valid(load(str(STREET)))
    assert head_limits_w(coordinator(30, 1000.0), network) == (30_000.0, 30_000.0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('timezone = "Mars/Olympus"', "timezone 'Mars/Olympus' is not known here"),
        ("buy = [{from_h = 1.0, price_per_kwh = 0.3}]", "buy must begin at from_h = 0 and ascend, got [1.0]"),
        ("sell = []", "$.aggregation.negotiation.sell"),
        ("import_limit_w = 0.0", "$.aggregation.negotiation.import_limit_w"),
        ("retail_per_kwh = 0.3", "unknown field retail_per_kwh"),
    ],
)
def test_what_is_wrong_with_the_terms_is_one_line_with_its_path(line: str, message: str) -> None:
    text = f"""
[identity]
community = "c"
[feeder]
network = "ieee33"
[[nodes]]
name = "east"
connection = "load18"
import_rating_w = 1000.0
export_rating_w = 1000.0
[aggregation.negotiation]
{line}
"""
    with pytest.raises(ConfigError) as caught:
        decode_config(text.encode(), "feeder.toml")
    assert message in str(caught.value) and "\n" not in str(caught.value)
