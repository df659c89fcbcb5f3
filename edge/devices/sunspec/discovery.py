"""Finding the models of a SunSpec device.

The map begins with "SunS" at register 40000, 0 or 50000, and is a chain of models, each with its identifier and length, ended by
identifier 0xFFFF (SunSpec Device Information Model Reference, "Locating the map"). Real devices answer a wrong base with an exception
or not at all, refuse a read that reaches behind the last model, serve models that are shorter or longer than published, and change
the order of models with the firmware. So nothing is taken from a fixed address, and an oddity is a note, not a failure.
"""

import itertools
from collections.abc import Sequence

import msgspec

from edge.devices.blocks import plan_blocks
from edge.devices.sunspec.layout import layouts
from edge.devices.transport import RegisterClient
from edge.errors import DeviceError, DeviceGarbage, DeviceRefused, DeviceTimeout

BASES = (40000, 0, 50000)
MARKER = (0x5375, 0x6E53)
END = 0xFFFF
MAX_MODELS = 100


class FoundModel(msgspec.Struct, frozen=True, kw_only=True):
    """One model of a device: where its ID register is, and how many registers follow ID and L."""

    id: int
    address: int
    length: int

    @property
    def end(self) -> int:
        """The first address behind the model."""
        return self.address + 2 + self.length


class SunSpecDevice(msgspec.Struct, frozen=True, kw_only=True):
    """The map of one device as found; `one_model_at_a_time` where it refuses a request that spans two models."""

    base: int
    models: tuple[FoundModel, ...]
    one_model_at_a_time: bool = False
    notes: tuple[str, ...] = ()

    def find(self, *ids: int) -> FoundModel | None:
        """The first of the models asked for that the device has, in the order asked."""
        for wanted in ids:
            for model in self.models:
                if model.id == wanted:
                    return model
        return None


async def discover(client: RegisterClient, unit: int, bases: Sequence[int] = BASES) -> SunSpecDevice:
    """Walk the chain of models; `DeviceGarbage` when no base holds the marker."""
    answers: list[str] = []
    silence: DeviceTimeout | None = None
    for base in bases:
        try:
            marker = await client.read_holding(unit, base, 2)
        except DeviceTimeout as error:
            silence = error
            answers.append(f"{base}: no answer")
            continue
        except DeviceRefused as error:
            answers.append(f"{base}: exception {error.exception_code}")
            continue
        if tuple(marker) == MARKER:
            return await _walk(client, unit, base)
        answers.append(f"{base}: {marker[0]:#06x} {marker[1]:#06x}")
    if silence is not None and len(answers) == sum("no answer" in a for a in answers):
        raise silence
    raise DeviceGarbage(f'unit {unit} is no SunSpec device: expected "SunS" at one of the bases, found {"; ".join(answers)}')


async def _walk(client: RegisterClient, unit: int, base: int) -> SunSpecDevice:
    models: list[FoundModel] = []
    notes: list[str] = []
    address = base + 2
    while len(models) < MAX_MODELS:
        try:
            header = tuple(await client.read_holding(unit, address, 2))
        except DeviceRefused as error:
            if not await _ends_with_one_register(client, unit, address):
                notes.append(f"no end marker: register {address} answered with exception {error.exception_code}")
            break
        if header[0] == END:
            break
        if header[0] == 0 or header[1] == 0:
            notes.append(f"the chain of models breaks at register {address} with ID {header[0]} and length {header[1]}")
            break
        model = FoundModel(id=header[0], address=address, length=header[1])
        models.append(model)
        notes.extend(_oddities(model))
        address = model.end
        if address > 0xFFFD:
            notes.append(f"model {model.id} at {model.address} claims {model.length} registers, beyond the address space")
            break
    else:
        notes.append(f"stopped after {MAX_MODELS} models")
    alone = len(models) > 1 and await _refuses_to_cross(client, unit, models[0], models[1])
    return SunSpecDevice(base=base, models=tuple(models), one_model_at_a_time=alone, notes=tuple(notes))


async def _refuses_to_cross(client: RegisterClient, unit: int, first: FoundModel, second: FoundModel) -> bool:
    """Whether a request for the last point of one model and the head of the next is turned down, or not answered at all."""
    start = _boundaries(first)[-2]
    try:
        await client.read_holding(unit, start, second.address + 2 - start)
    except DeviceRefused as error:
        return error.exception_code in (2, 3, 4)
    except DeviceTimeout:
        return True
    return False


async def _ends_with_one_register(client: RegisterClient, unit: int, address: int) -> bool:
    try:
        return tuple(await client.read_holding(unit, address, 1)) == (END,)
    except DeviceError:
        return False


def _oddities(model: FoundModel) -> list[str]:
    layout = layouts().get(model.id)
    if layout is None or any(group.count is not None for group in layout.groups):
        return []
    published = layout.size + sum(group.size for group in layout.groups) - 2
    allowed = {published, 65} if model.id == 1 else {published}
    if model.length in allowed:
        return []
    return [f"model {model.id} at {model.address} has length {model.length}, published is {published}"]


async def read_model(client: RegisterClient, unit: int, model: FoundModel) -> tuple[int, ...]:
    """All registers of a model, ID and L included, in requests cut on point boundaries."""
    boundaries = _boundaries(model)
    registers: list[int] = []
    for block in plan_blocks(itertools.pairwise(boundaries)):
        registers.extend(await client.read_holding(unit, block.start, block.count))
    if registers[:2] != [model.id, model.length]:
        raise DeviceGarbage(
            f"model {model.id} of length {model.length} was at register {model.address}, "
            f"now there is ID {registers[0]} with length {registers[1]}: the device changed its map"
        )
    return tuple(registers)


def _boundaries(model: FoundModel) -> list[int]:
    """Addresses where a request may begin or end: every point of a known model, every register of an unknown one."""
    layout = layouts().get(model.id)
    if layout is None:
        return list(range(model.address, model.end + 1))
    starts = [point.offset for point in layout.points] + [layout.size]
    offset = layout.size
    for group in layout.groups:
        if group.count is None:
            starts.extend(offset + point.offset for point in group.points)
            offset += group.size
        else:
            while offset + group.size <= model.length + 2:
                starts.extend(offset + point.offset for point in group.points)
                offset += group.size
    starts.append(offset)
    total = model.length + 2
    inside = sorted({start for start in starts if start < total} | {total})
    tail = list(range(inside[-2] + 1, total)) if total - inside[-2] > 125 else []
    return [model.address + start for start in sorted({*inside, *tail})]
