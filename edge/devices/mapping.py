"""What a driver has to know about one device: which requests to make, how to understand the answers, how to write a setpoint.

A `DeviceMap` is made once, after a SunSpec device has been discovered or from a register-map profile, and is then used by the one
driver (`edge.devices.driver`) in every cycle. Nothing here performs a request.
"""

from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter

import msgspec

from edge.devices.blocks import MAX_REGISTERS, Block, Item, plan_blocks, widen
from edge.devices.decode import Decoder, Field, compile_block
from edge.values import DeviceKind, Reading, Setpoint

Numbers = dict[str, float | None]
"""Field name -> last number read, in SI."""


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What the rest of the edge sees of a device, and in plain words what it cannot do.

    `reverts` says whether the device can fall back to a chosen value by its own timer when the controller falls silent.
    """

    measures_power: bool = False
    limits_generation: bool = False
    sets_power: bool = False
    limits_draw: bool = False
    stores_energy: bool = False
    reverts: bool = False
    notes: tuple[str, ...] = ()


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """Registers that are written in one request.

    `single` asks for function 6, `nonvolatile` marks registers that wear, `repeats` says whether the segment belongs to the setpoint
    that is written again before the device's timer runs out (a setting that stays does not).
    """

    address: int
    registers: tuple[int, ...]
    single: bool = False
    nonvolatile: bool = False
    repeats: bool = True

    @property
    def end(self) -> int:
        """The first address behind the segment."""
        return self.address + len(self.registers)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A setpoint as the device will hold it.

    `effective_w` is the setpoint after rounding to the resolution of the device (towards the safe side). `refresh_after_s` is the age
    at which it has to be written again so that the device's own timer of `expires_after_s` does not run out; `reverts` says whether
    that timer leads to the value that was asked for. `segments` are written in order; the one that enables comes last.
    """

    segments: tuple[Segment, ...]
    effective_w: float | None
    refresh_after_s: float | None = None
    expires_after_s: float | None = None
    reverts: bool = True
    detail: str = ""


class ReadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One request and its decoder; `controls` are the writable registers whose raw content the write discipline compares."""

    function: int
    block: Block
    names: tuple[str, ...]
    decode: Decoder
    controls: tuple[int, ...] = ()
    gather_controls: Callable[[Sequence[int]], tuple[int, ...]] | None = None


class DeviceMap(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a driver needs.

    `fast` is read in every cycle, `slow` holds setpoints and what changes over minutes, `rare` the ratings. `headers` are numbers that
    must have a fixed value in every answer (the identifiers of SunSpec models): another value means that the device changed its map.
    `switched_off` are the (register, value) pairs that mean that the device's control is disabled, `heartbeat` is the first register and
    the number of registers in which it may watch for a controller that counts.
    """

    kind: DeviceKind
    identity: str
    capabilities: Capabilities
    fast: tuple[ReadPlan, ...]
    slow: tuple[ReadPlan, ...]
    rare: tuple[ReadPlan, ...]
    interpret: Callable[[str, float, Numbers], Reading]
    control: Callable[[Setpoint, Numbers], Wanted] | None = None
    headers: tuple[tuple[str, int], ...] = ()
    switched_off: tuple[tuple[int, int], ...] = ()
    heartbeat: tuple[int, int] | None = None


def plan_reads(
    fast: Sequence[Field],
    slow: Sequence[Field],
    rare: Sequence[Field],
    *,
    controls: Iterable[Item] = (),
    headers: Sequence[Field] = (),
    extras: Sequence[Field] = (),
    limit: int = MAX_REGISTERS,
    cuts: Sequence[int] = (),
) -> tuple[tuple[ReadPlan, ...], tuple[ReadPlan, ...], tuple[ReadPlan, ...]]:
    """Requests for the three paces.

    What is slow joins a fast request where that saves one, because a register is cheaper than a request. `headers` and `extras` are
    read only where they cost no request.
    """
    controls = tuple(controls)
    slow_items = [field.hull() for field in slow] + list(controls)
    fast_blocks = plan_blocks([field.hull() for field in fast], limit, cuts)
    fast_blocks, _ = widen(fast_blocks, [field.hull() for field in headers], limit, cuts)
    wider, left = widen(fast_blocks, slow_items, limit, cuts)
    if len(plan_blocks(left, limit, cuts)) < len(plan_blocks(slow_items, limit, cuts)):
        fast_blocks = wider
    else:
        left = tuple(item for item in slow_items if not any(block.covers(item) for block in fast_blocks))
    slow_blocks, _ = widen(plan_blocks(left, limit, cuts), [field.hull() for field in extras], limit, cuts)
    rare_items = [f.hull() for f in rare if not any(b.covers(f.hull()) for b in (*fast_blocks, *slow_blocks))]
    fields = [*fast, *slow, *rare, *headers, *extras]
    paces = (fast_blocks, slow_blocks, plan_blocks(rare_items, limit, cuts))
    plans: list[tuple[ReadPlan, ...]] = []
    taken: set[str] = set()
    for blocks in paces:
        made: list[ReadPlan] = []
        for block in blocks:
            here = [f for f in fields if f.name not in taken and block.covers(f.hull())]
            taken.update(field.name for field in here)
            made.append(read_plan(block, here, controls))
        plans.append(tuple(made))
    return plans[0], plans[1], plans[2]


def read_plan(block: Block, fields: Sequence[Field], controls: Iterable[Item] = (), function: int = 3) -> ReadPlan:
    """A request with the decoder of the fields and the control registers that it covers."""
    addresses = tuple(a for item in controls if block.covers(item) for a in range(item[0], item[1]))
    gather: Callable[[Sequence[int]], tuple[int, ...]] | None = None
    if len(addresses) > 1:
        gather = itemgetter(*(address - block.start for address in addresses))
    elif addresses:
        only = addresses[0] - block.start
        gather = lambda registers: (registers[only],)  # noqa: E731 - a one-element itemgetter does not return a tuple
    return ReadPlan(
        function=function,
        block=block,
        names=tuple(field.name for field in fields),
        decode=compile_block(block.start, fields),
        controls=addresses,
        gather_controls=gather,
    )
