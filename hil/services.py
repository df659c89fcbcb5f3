"""What homes delivered to the network operator, and what they were paid, from the meters of a run.

A service is owed by the newest agreement that holds at a time. A community has delivered the part of it by which its meters stand away from
what it had contracted for, in the direction of the service, at most all of it; every home is paid that part of what the agreement promised
it. The contract, from which services are counted, is one that the homes made themselves, before they knew of the network.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from hil.agreements import AgreedService, in_force
from hil.frames import Record
from hil.metering import metered

Floats = npt.NDArray[np.float64]
LEAST_SERVICE_W = 1.0


class Services(Struct, frozen=True, kw_only=True):
    """Services of one run: the largest that was owed at a time, energy owed and delivered, and what each home was paid."""

    owed_kw: float
    owed_kwh: float
    delivered_kwh: float
    paid: tuple[float, ...]


def settle_services(record: Record, agreed: Sequence[AgreedService]) -> Services:
    """Settle the services of a run, community by community."""
    times_s, interval_s, net_w = metered(record)
    paid, owed_kw, owed_kwh, delivered_kwh = np.zeros(len(record.homes)), 0.0, 0.0, 0.0
    for item, at in in_force(times_s, agreed):
        service_w = np.where(at >= 0, np.array(item.service_w)[at], 0.0)
        owed = np.abs(service_w) >= LEAST_SERVICE_W
        at, service_w = at[owed], service_w[owed]
        rows = [record.homes.index(home) for home in item.homes]
        moved_w = net_w[rows][:, owed].sum(axis=0) - np.array(item.baseline_w)[at]
        part = np.clip(moved_w / service_w, 0.0, 1.0)
        owed_kw = max(owed_kw, float(np.abs(service_w).max(initial=0.0)) / 1e3)
        owed_kwh += float(np.abs(service_w).sum()) * interval_s / 3.6e6
        delivered_kwh += float((part * np.abs(service_w)).sum()) * interval_s / 3.6e6
        paid[rows] += (np.array(item.paid)[:, at] * part).sum(axis=1) * interval_s / item.step_s
    return Services(owed_kw=owed_kw, owed_kwh=owed_kwh, delivered_kwh=delivered_kwh, paid=tuple(paid.tolist()))
