"""The register map of one simulated device: blocks of registers that are encoded when they are asked for, and no earlier.

A map is a list of segments; a segment is a run of addresses without holes, cut into blocks. Each block knows how to encode its live
values and how to take a write. The bench steps a hundred devices thousands of times and reads few of them between two steps, so a
block is encoded at most once per revision, and only when a read touches it.
"""

import bisect
from collections.abc import Sequence
from typing import Protocol

from hil.errors import HilError

ILLEGAL_FUNCTION = 1
ILLEGAL_ADDRESS = 2
ILLEGAL_VALUE = 3
DEVICE_BUSY = 6
GATEWAY_NO_RESPONSE = 11


class ModbusRefusal(HilError):
    """The device answers this request with a Modbus exception."""

    def __init__(self, exception_code: int) -> None:
        super().__init__(f"refused with Modbus exception {exception_code}")
        self.exception_code = exception_code


class Block(Protocol):
    """Some consecutive registers: `registers` of them, encoded into an image at a byte offset."""

    registers: int
    measures: bool

    def encode(self, image: bytearray, offset: int, *, blank: bool) -> None:
        """Bring the registers up to date; `blank` lets every live value read as not implemented."""

    def needs_image(self, first: int, count: int) -> bool:
        """Whether a write of `count` registers from `first` has to know what the registers beside them hold just now."""

    def write(self, first: int, data: bytes, image: bytearray, offset: int) -> None:
        """Take a write to the registers from `first` (relative to the block); raise ModbusRefusal where it is not allowed."""


class FixedBlock:
    """Registers that never change: the SunSpec marker, the end model, a vendor's constants."""

    measures = False

    def __init__(self, data: bytes) -> None:
        self.registers = len(data) // 2
        self._data = data

    def encode(self, image: bytearray, offset: int, *, blank: bool) -> None:
        """The same registers every time."""
        del blank
        image[offset : offset + len(self._data)] = self._data

    def needs_image(self, first: int, count: int) -> bool:
        """Nothing in here can be written."""
        return False

    def write(self, first: int, data: bytes, image: bytearray, offset: int) -> None:
        """Nothing in here can be written."""
        raise ModbusRefusal(ILLEGAL_ADDRESS)


class _Segment:
    """A run of addresses without holes."""

    __slots__ = ("base", "blocks", "encoded", "end", "image", "offsets", "starts")

    def __init__(self, base: int, blocks: Sequence[Block]) -> None:
        self.base = base
        self.blocks = list(blocks)
        self.starts: list[int] = []
        position = base
        for block in blocks:
            self.starts.append(position)
            position += block.registers
        self.end = position
        self.offsets = [2 * (start - base) for start in self.starts]
        self.image = bytearray(2 * (position - base))
        self.encoded = [-1] * len(self.blocks)


class RegisterMap:
    """All registers of one device.

    `zeros_past_end` answers addresses that do not exist with zeros instead of exception 2. `whole_blocks` refuses a read that
    begins in one block and ends in another, as some inverters do (the first block, a marker, may be read together with the next).
    `most_registers` is the longest read that is answered. `frozen` keeps answering with what was last encoded, `blank` lets every
    live value of the measuring blocks read as not implemented: the two are faults, not states of a healthy device. Whoever
    changes a live value moves `revision` on.
    """

    def __init__(
        self,
        segments: Sequence[tuple[int, Sequence[Block]]],
        *,
        zeros_past_end: bool = False,
        whole_blocks: bool = False,
        most_registers: int = 125,
    ) -> None:
        self._segments = [_Segment(base, blocks) for base, blocks in sorted(segments, key=lambda item: item[0])]
        self._bases = [segment.base for segment in self._segments]
        self._zeros_past_end = zeros_past_end
        self._whole_blocks = whole_blocks
        self._most_registers = most_registers
        self.revision = 0
        self.frozen = False
        self.blank = False

    def read(self, address: int, count: int) -> bytes:
        """`count` registers from `address`, as they travel on the wire (big endian)."""
        if count > self._most_registers:
            raise ModbusRefusal(ILLEGAL_VALUE)
        end = address + count
        segment = self._find(address, end)
        if segment is None:
            return self._past_end(address, end)
        if not self.frozen:
            self._refresh(segment, address, end)
        first = 2 * (address - segment.base)
        return bytes(segment.image[first : first + 2 * count])

    def write(self, address: int, data: bytes) -> None:
        """Write registers; the range must lie within writable points of one block."""
        end = address + len(data) // 2
        segment = self._find(address, end)
        if segment is None:
            raise ModbusRefusal(ILLEGAL_ADDRESS)
        index = bisect.bisect_right(segment.starts, address) - 1
        block, start = segment.blocks[index], segment.starts[index]
        if end > start + block.registers:
            raise ModbusRefusal(ILLEGAL_ADDRESS)
        if not self.frozen and block.needs_image(address - start, end - address):
            self._refresh(segment, address, end)
        block.write(address - start, data, segment.image, segment.offsets[index])

    def freeze(self) -> None:
        """From now on every read gets what would be read now."""
        for segment in self._segments:
            self._refresh(segment, segment.base, segment.end)
        self.frozen = True

    def extent(self) -> list[tuple[int, int]]:
        """The runs of addresses that exist, as half-open pairs."""
        return [(segment.base, segment.end) for segment in self._segments]

    def _find(self, address: int, end: int) -> _Segment | None:
        index = bisect.bisect_right(self._bases, address) - 1
        if index < 0:
            return None
        segment = self._segments[index]
        return segment if end <= segment.end else None

    def _refresh(self, segment: _Segment, address: int, end: int) -> None:
        starts, encoded, revision = segment.starts, segment.encoded, self.revision
        first = bisect.bisect_right(starts, address) - 1
        for index in range(first, len(starts)):
            if starts[index] >= end:
                break
            if self._whole_blocks and index > first > 0:
                raise ModbusRefusal(ILLEGAL_ADDRESS)
            if encoded[index] != revision:
                block = segment.blocks[index]
                block.encode(segment.image, segment.offsets[index], blank=self.blank and block.measures)
                encoded[index] = revision

    def _past_end(self, address: int, end: int) -> bytes:
        if not self._zeros_past_end:
            raise ModbusRefusal(ILLEGAL_ADDRESS)
        registers = []
        for register in range(address, end):
            found = self._find(register, register + 1)
            registers.append(bytes(2) if found is None else self.read(register, 1))
        return b"".join(registers)
