"""Collecting cyclic garbage seldom, while a run keeps millions of small objects alive and makes few cycles of them.

Searching them at every turn costs a tenth of the time. What exists when the run proper begins stays to its end and is not searched at
all; what comes later is searched seldom.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_THRESHOLDS = (50_000, 20, 50)


@contextmanager
def collecting_seldom() -> Iterator[None]:
    """As the module says, until the context ends; inside another one nothing changes."""
    before = gc.get_threshold()
    if before == _THRESHOLDS:
        yield
        return
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
