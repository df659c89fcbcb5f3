"""What homes delivered to the network operator, and what they were paid, from the meters of a run.

A service is owed by the newest agreement that holds at a time. A home has delivered the part of it by which its meter stands away from what
it had contracted for, in the direction of the service, at most all of it, and is paid that part of what the agreement promised it. The
contract, from which services are counted, is one that the homes made themselves, before they knew of the network.
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
    """Settle the services of a run, home by home."""
    times_s, interval_s, net_w = metered(record)
    paid, owed_kw, owed_kwh, delivered_kwh = np.zeros(len(record.homes)), 0.0, 0.0, 0.0
    for item, at in in_force(times_s, agreed):
        held = at >= 0
        rows = [record.homes.index(home) for home in item.homes]
        contract_w, service_w, promised = (np.array(table)[:, at[held]] for table in (item.contract_w, item.service_w, item.paid))
        is_owed = np.abs(service_w) >= LEAST_SERVICE_W
        moved_w = net_w[rows][:, held] - contract_w
        part = np.where(is_owed, np.clip(moved_w / np.where(is_owed, service_w, 1.0), 0.0, 1.0), 0.0)
        owed_w = np.where(is_owed, np.abs(service_w), 0.0)
        owed_kw = max(owed_kw, float(owed_w.sum(axis=0).max(initial=0.0)) / 1e3)
        owed_kwh += float(owed_w.sum()) * interval_s / 3.6e6
        delivered_kwh += float((part * owed_w).sum()) * interval_s / 3.6e6
        paid[rows] += (promised * part).sum(axis=1) * interval_s / item.step_s
    return Services(owed_kw=owed_kw, owed_kwh=owed_kwh, delivered_kwh=delivered_kwh, paid=tuple(paid.tolist()))
