"""What the values of a round mean, the same for members and operator. All in whole watts.

| content | values |
|---|---|
| plan, negotiation | net import in each interval (positive into the house) |
| flexibility | four rows of equal length: increase, decrease (adjustable margin around the plan), import reach, export reach (magnitudes) |

Reach is the most that a house may import or export in the interval; margins add up to the community's adjustable margin (Li et al.
2026, sections 3.2 and 5.2), reaches to what its envelopes have to leave room for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

FLEXIBILITY_ROWS: Final = 4


class FlexibilityRows(Struct, frozen=True, kw_only=True):
    """The rows of a flexibility round, or of its sums [W]."""

    increase_w: Sequence[int]
    decrease_w: Sequence[int]
    import_reach_w: Sequence[int]
    export_reach_w: Sequence[int]


def flexibility_values(rows: FlexibilityRows) -> list[int]:
    """The rows one after the other."""
    return [*rows.increase_w, *rows.decrease_w, *rows.import_reach_w, *rows.export_reach_w]


def flexibility_rows(values: Sequence[int]) -> FlexibilityRows:
    """Inverse of `flexibility_values`; what is left over beyond four equal rows is not used."""
    length = len(values) // FLEXIBILITY_ROWS
    rows = [tuple(int(value) for value in values[row * length : (row + 1) * length]) for row in range(FLEXIBILITY_ROWS)]
    return FlexibilityRows(increase_w=rows[0], decrease_w=rows[1], import_reach_w=rows[2], export_reach_w=rows[3])
