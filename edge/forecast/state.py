"""A forecaster's memory as bytes, so that a power cycle does not cost 28 days of learning.

History, calibration and trained weights are kept; forecasts that were waiting for their targets are not, and the mean of the open
slot starts again. About 250 kB for quarter hours. The bytes are refused when they come from another kind, step, set of levels or
layout.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from edge.errors import StoreError
from edge.forecast.forecaster import Forecaster

LAYOUT = 1


class _Saved(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    layout: int
    kind: str
    step_s: int
    levels: list[float]
    first_slot: int | None
    open_slot: int | None
    level: float
    position: int
    scored: int
    loss_count: float
    fitted_day: int | None
    weights: bytes | None
    arrays: dict[str, bytes]


def save(forecaster: Forecaster) -> bytes:
    return msgspec.msgpack.encode(
        _Saved(
            layout=LAYOUT,
            kind=forecaster.kind,
            step_s=forecaster.history.step_s,
            levels=forecaster.levels.tolist(),
            first_slot=forecaster.history.first_slot,
            open_slot=forecaster.history.open_slot,
            level=forecaster.recent.level,
            position=forecaster.recent.position,
            scored=forecaster.scoreboard.scored,
            loss_count=forecaster.scoreboard.loss_count,
            fitted_day=forecaster.fitted_day if forecaster.weights is not None else None,
            weights=forecaster.weights.tobytes() if forecaster.weights is not None else None,
            arrays={name: np.ascontiguousarray(array).tobytes() for name, array in _arrays(forecaster).items()},
        )
    )


def restore(forecaster: Forecaster, saved: bytes) -> None:
    """Fill a forecaster that was just constructed; raises `StoreError` and changes nothing if the bytes do not fit it."""
    try:
        state = msgspec.msgpack.decode(saved, type=_Saved)
    except msgspec.DecodeError as error:
        raise StoreError(f"forecaster state cannot be read: {error}") from error
    expected = (LAYOUT, forecaster.kind, forecaster.history.step_s, forecaster.levels.tolist())
    found = (state.layout, state.kind, state.step_s, state.levels)
    if found != expected:
        raise StoreError(f"forecaster state is of another forecaster: expected layout, kind, step, levels {expected}, got {found}")
    arrays = _arrays(forecaster)
    sizes = {name: array.nbytes for name, array in arrays.items()}
    if {name: len(data) for name, data in state.arrays.items()} != sizes:
        raise StoreError(f"forecaster state has arrays of the wrong size: expected {sizes}")
    loaded = {name: np.frombuffer(state.arrays[name], dtype=array.dtype).reshape(array.shape) for name, array in arrays.items()}
    forecaster.resume(state.first_slot, state.open_slot, _weights(state.weights, len(forecaster.levels)), state.fitted_day)
    for name, array in arrays.items():
        array[...] = loaded[name]
    forecaster.recent.level, forecaster.recent.position = state.level, state.position
    forecaster.scoreboard.scored, forecaster.scoreboard.loss_count = state.scored, state.loss_count


def _weights(data: bytes | None, levels: int) -> npt.NDArray[np.float64] | None:
    if data is None:
        return None
    if len(data) % (8 * levels) != 0:
        raise StoreError(f"forecaster state has {len(data)} bytes of weights for {levels} levels")
    return np.frombuffer(data, dtype=np.float64).reshape(-1, levels).copy()


def _arrays(forecaster: Forecaster) -> dict[str, npt.NDArray[Any]]:
    """Everything that is learned, as the arrays themselves (not copies)."""
    recent, board = forecaster.recent, forecaster.scoreboard
    arrays: dict[str, npt.NDArray[Any]] = {
        "history": forecaster.history.values,
        "levels_past": recent.past,
        "variance": recent.variance,
        "product": recent.product,
        "count": recent.count,
        "hits": board.hits,
        "loss": board.loss,
    }
    for index, calibration in enumerate(board.calibrations):
        arrays |= {
            f"offsets{index}": calibration.offsets,
            f"asked{index}": calibration.asked,
            f"scores{index}": calibration.scores,
            f"counts{index}": calibration.counts,
        }
    return arrays
