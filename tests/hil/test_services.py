"""Services are paid for as far as meters show them, by the newest agreement, and agreements are judged by power flow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coordinator.network.cases import load
from hil.agreements import AgreedService, AgreementFlow, Checker, worst_of
from hil.frames import Record
from hil.services import settle_services

KWH = 300.0 / 3600.0


def record_of(net_w: list[list[float]]) -> Record:
    """One sample in every 300 s."""
    record = Record(tuple(f"h{number}" for number in range(len(net_w[0]))), 0.0, 300.0, len(net_w))
    record.home["net_import_w"][:] = net_w
    record.samples = len(net_w)
    return record


def agreed(start_s: float, *homes: tuple[float, float, float], number: int | None = None) -> AgreedService:
    """For each home: what it had contracted for, the service, and what it is promised; one interval of 900 s."""
    contract_w, service_w, paid = (tuple((home[part],) for home in homes) for part in range(3))
    return AgreedService(
        number=int(start_s) if number is None else number, start_s=start_s, step_s=900.0,
        homes=tuple(f"h{number}" for number in range(len(homes))), contract_w=contract_w,
        service_w=service_w, paid=paid,
    )  # fmt: skip


@pytest.mark.parametrize(("exported_w", "part"), [(6000.0, 0.0), (5000.0, 0.5), (4000.0, 1.0), (1000.0, 1.0), (9000.0, 0.0)])
def test_a_service_is_paid_as_far_as_the_meter_stands_away_from_the_contract(exported_w: float, part: float) -> None:
    found = settle_services(record_of([[-exported_w, 0.0, 500.0]]), (agreed(0.0, (-6000.0, 2000.0, 0.9), (0.0, 0.0, 0.0)),))
    assert found.owed_kw == 2.0
    assert found.owed_kwh == pytest.approx(2.0 * KWH)
    assert found.delivered_kwh == pytest.approx(part * 2.0 * KWH)
    assert found.paid == pytest.approx((part * 0.9 / 3.0, 0.0, 0.0))


def test_homes_that_move_in_opposite_directions_are_each_paid_for_their_own() -> None:
    found = settle_services(record_of([[-4000.0, -4000.0]]), (agreed(0.0, (-6000.0, 2000.0, 0.9), (-3000.0, -1000.0, 0.3)),))
    assert found.delivered_kwh == pytest.approx(3.0 * KWH)
    assert found.paid == pytest.approx((0.3, 0.1))


def test_only_the_newest_agreement_is_paid() -> None:
    record = record_of([[-4000.0]] * 4)
    found = settle_services(record, (agreed(0.0, (-6000.0, 2000.0, 3.0)), agreed(600.0, (-6000.0, 2000.0, 0.3))))
    assert found.owed_kwh == pytest.approx(4 * 2.0 * KWH)
    assert found.paid == pytest.approx((2 * 1.0 + 2 * 0.1,))


def test_two_agreements_that_begin_together_are_not_both_paid() -> None:
    """A coordinator that was started again agrees anew about the interval that it had agreed about."""
    promises = (-6000.0, 2000.0, 3.0), (-6000.0, 2000.0, 0.3)
    found = settle_services(record_of([[-4000.0]]), (agreed(0.0, promises[1], number=400), agreed(0.0, promises[0], number=10)))
    assert found.owed_kwh == pytest.approx(2.0 * KWH)
    assert found.paid == pytest.approx((0.1,))


def test_where_nothing_is_owed_nothing_is_paid() -> None:
    found = settle_services(record_of([[-4000.0]]), (agreed(0.0, (-6000.0, 0.0, 0.0)),))
    assert (found.owed_kwh, found.delivered_kwh, sum(found.paid)) == (0.0, 0.0, 0.0)


def test_an_agreement_is_judged_at_the_homes_of_the_network() -> None:
    network = load(Path(__file__).resolve().parents[2] / "hil" / "networks" / "street")
    names = tuple(connection.id for connection in network.connections)
    checker = Checker(network, {name: name for name in names}, 0.2)
    idle = checker.flow(names, np.zeros((len(names), 2)))
    sunny = checker.flow(names, np.full((len(names), 2), -5000.0))
    assert idle.voltage_max_v == pytest.approx(idle.voltage_min_v, abs=1.0)
    assert sunny.voltage_max_v > 253.0
    assert sunny.transformer_frac == pytest.approx(30 * 5.0 * np.hypot(1.0, 0.2) / 160.0, rel=0.1)
    assert worst_of([idle, sunny]) == AgreementFlow(
        voltage_min_v=min(idle.voltage_min_v, sunny.voltage_min_v), voltage_max_v=sunny.voltage_max_v,
        transformer_frac=sunny.transformer_frac,
    )  # fmt: skip
    assert worst_of([]) is None
