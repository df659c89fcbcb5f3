"""The meters of a run, folded into metering intervals."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hil.frames import Record

Floats = npt.NDArray[np.float64]
INTERVAL_S = 300.0


def metered(record: Record) -> tuple[Floats, float, Floats]:
    """Beginnings (T,) of the whole metering intervals of a run, their length, and the mean net imports (homes, T) in them."""
    each = max(round(INTERVAL_S / record.sample_s), 1)
    count = record.samples // each
    net_w = record.home["net_import_w"][: count * each].astype(np.float64).reshape(count, each, -1).mean(axis=1).T
    interval_s = each * record.sample_s
    return record.start_s + interval_s * np.arange(count, dtype=np.float64), interval_s, net_w
