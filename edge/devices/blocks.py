"""Which registers to ask for in one request.

Modbus allows 125 registers per request (MODBUS Application Protocol V1.1b3, section 6.3) and SunSpec devices may refuse a request
that begins or ends inside a point, so a block begins and ends where a wanted item does. An item is a half-open address range that has
to arrive in one piece: a value together with its scale factor. `cuts` are addresses that no request may span: where models begin, on
devices that answer for one model at a time.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence

import msgspec

MAX_REGISTERS = 125

Item = tuple[int, int]


class Block(msgspec.Struct, frozen=True, order=True):
    """One request: `count` registers from `start` on."""

    start: int
    count: int

    @property
    def end(self) -> int:
        """The first address behind the block."""
        return self.start + self.count

    def covers(self, item: Item) -> bool:
        """Whether the item arrives whole with this block."""
        return self.start <= item[0] and item[1] <= self.end


def plan_blocks(items: Iterable[Item], limit: int = MAX_REGISTERS, cuts: Sequence[int] = ()) -> tuple[Block, ...]:
    """The fewest blocks of at most `limit` registers such that every item lies whole inside one of them.

    The leftmost item that is not covered forces a block that begins there; beginning later loses it, beginning earlier gains nothing.
    """
    blocks: list[Block] = []
    for start, end in sorted(items):
        if not start < end <= start + limit:
            raise ValueError(f"an item must have 1 to {limit} registers, got {start} to {end}")
        last = blocks[-1] if blocks else None
        if last is not None and end <= last.start + limit and not _spans(last.start, end, cuts):
            blocks[-1] = Block(last.start, max(last.end, end) - last.start)
        else:
            blocks.append(Block(start, end - start))
    return tuple(blocks)


def widen(
    blocks: Iterable[Block], extras: Iterable[Item], limit: int = MAX_REGISTERS, cuts: Sequence[int] = ()
) -> tuple[tuple[Block, ...], tuple[Item, ...]]:
    """Let the blocks grow so that they take in as many extras as fit; returns the blocks and the extras that did not fit.

    The nearest extras go first, so that a block does not spend its room on a far one. No request is added.
    """
    grown = list(blocks)
    left: list[Item] = []
    for item in sorted(set(extras), key=lambda extra: (min((_distance(b, extra) for b in grown), default=0), extra)):
        for index, block in enumerate(grown):
            start, end = min(block.start, item[0]), max(block.end, item[1])
            if end - start <= limit and not _spans(start, end, cuts):
                grown[index] = Block(start, end - start)
                break
        else:
            left.append(item)
    return tuple(grown), tuple(left)


def _distance(block: Block, item: Item) -> int:
    return max(0, block.start - item[0]) + max(0, item[1] - block.end)


def _spans(start: int, end: int, cuts: Sequence[int]) -> bool:
    """Whether a cut (in ascending order) lies inside the range."""
    return bisect_right(cuts, start) != bisect_right(cuts, end - 1)
