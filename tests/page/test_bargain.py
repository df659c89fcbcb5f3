"""The price of a mechanism on the page: the mean of what the homes are asked, never one home's, and none where nothing is agreed."""

from __future__ import annotations

import pytest

from coordinator.page.bargain import Bargain
from protocols.messages import MarketAsk


def ask(node: str, price: float, *, negotiation: int = 1, round: int = 0, final: bool = False, agreed: bool = False) -> MarketAsk:
    return MarketAsk(
        sender="coordinator", time_s=1000.0, sequence=1, node=node, mechanism="p2p", negotiation=negotiation, round=round, final=final,
        agreed=agreed, start_s=900.0, step_s=900.0, weight_per_kwh_w=0.0, price_per_kwh=(price, 0.3), target_w=(0.0, 0.0),
    )  # fmt: skip


def test_fewer_homes_than_hide_each_other_show_no_price() -> None:
    known = Bargain(5)
    for number in range(4):
        assert known.take(ask(f"h{number}", 0.1))
    assert known.price is None
    known.take(ask("h4", 0.6))
    assert known.price is not None and known.price.per_kwh == pytest.approx((0.2, 0.3))
    assert (known.price.mechanism, known.price.final) == ("p2p", False)


def test_a_late_ask_of_an_earlier_round_changes_nothing_and_the_last_word_holds() -> None:
    known = Bargain(1)
    known.take(ask("h0", 0.2, round=3))
    assert not known.take(ask("h1", 9.0, round=2))
    assert known.price is not None and known.price.per_kwh[0] == 0.2
    known.take(ask("h0", 0.25, round=3, final=True, agreed=True))
    assert known.price is not None and known.price.final and known.price.per_kwh[0] == 0.25


def test_what_was_not_agreed_is_no_price() -> None:
    known = Bargain(1)
    known.take(ask("h0", 0.2))
    known.take(ask("h0", 0.0, round=1, final=True))
    assert known.price is None
    known.take(ask("h0", 0.3, negotiation=2))
    assert known.price is not None and known.price.per_kwh[0] == 0.3
