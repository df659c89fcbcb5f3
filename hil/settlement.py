"""Bills from meter energy, as double entry in whole micro-units of the currency, so that money is conserved exactly or visibly not.

Every interval posts, for each home, what it owes for its imported and is owed for its exported energy; the other side of each
posting is the retailer's. Import and export registers run separately, as in a bidirectional meter: energy that flowed in and out
within one interval is not netted.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hil.checkers import CheckResult, Tally
from hil.frames import Frame

Floats = npt.NDArray[np.float64]
MICRO = 1_000_000
WH_PER_KWH = 1000.0


class Settlement:
    """Meters and accounts of all homes and of their retailer."""

    def __init__(self, homes: tuple[str, ...], interval_s: float, tally: Tally | None = None) -> None:
        self._homes = homes
        self._interval_s = interval_s
        self._tally = Tally("money_conserved") if tally is None else tally
        self._elapsed_s = 0.0
        self._import_wh = np.zeros(len(homes))
        self._export_wh = np.zeros(len(homes))
        self.import_wh = np.zeros(len(homes))
        self.export_wh = np.zeros(len(homes))
        self.home_micro = np.zeros(len(homes), dtype=np.int64)
        """What each home owes; negative where it is owed."""
        self.retailer_micro = 0
        self._expected = 0.0

    def watch(self, frame: Frame, buy_per_kwh: float, sell_per_kwh: float) -> None:
        """Meter one step at the prices that hold in it, and post the interval when it is over."""
        energy_wh = frame.net_import_w * (frame.step_s / 3600.0)
        self._import_wh += np.maximum(energy_wh, 0.0)
        self._export_wh += np.maximum(-energy_wh, 0.0)
        self._elapsed_s += frame.step_s
        self._prices = (buy_per_kwh, sell_per_kwh)
        if self._elapsed_s >= self._interval_s - 1e-9:
            self.close()

    def close(self) -> None:
        """Post the interval that is open, whole or not."""
        if self._elapsed_s == 0.0:
            return
        buy, sell = self._prices
        owed_micro = np.rint(self._import_wh * (buy * MICRO / WH_PER_KWH)).astype(np.int64)
        earned_micro = np.rint(self._export_wh * (sell * MICRO / WH_PER_KWH)).astype(np.int64)
        self.home_micro += owed_micro - earned_micro
        self.retailer_micro -= int(owed_micro.sum()) - int(earned_micro.sum())
        self.import_wh += self._import_wh
        self.export_wh += self._export_wh
        self._expected += (buy * float(self._import_wh.sum()) - sell * float(self._export_wh.sum())) / WH_PER_KWH
        self._check()
        self._import_wh = np.zeros(len(self._homes))
        self._export_wh = np.zeros(len(self._homes))
        self._elapsed_s = 0.0

    def result(self) -> CheckResult:
        """What the check of every interval found."""
        return self._tally.result()

    def _check(self) -> None:
        """The accounts sum to nothing, and what the homes owe is what the feeder's total energy costs, up to rounding."""
        owed_micro = int(self.home_micro.sum())
        rounding = 2.0 * len(self._homes) * (self._tally.checks + 1) / MICRO
        if owed_micro + self.retailer_micro != 0:
            self._tally.violated(f"homes owe {owed_micro} micro-units, the retailer is owed {-self.retailer_micro}")
        elif abs(owed_micro / MICRO - self._expected) > rounding:
            self._tally.violated(f"homes owe {owed_micro / MICRO:.6f}, their energy costs {self._expected:.6f}")
        else:
            self._tally.passed()
