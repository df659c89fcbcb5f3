"""What a device really implements: points looked up by name, checked against one complete read of the models that matter."""

from collections.abc import Sequence

from edge.devices.decode import Field
from edge.devices.sunspec.codec import Values, decode_model
from edge.devices.sunspec.discovery import FoundModel, SunSpecDevice, discover, read_model
from edge.devices.sunspec.layout import Point, layouts
from edge.devices.transport import RegisterClient
from edge.errors import DeviceRefused

SURVEYED = (1, 120, 121, 122, 123, 124, 160, 701, 702, 704, 713, 714, 715, 802)
"""Models that are read completely once, to see which of their points are implemented."""


class Survey:
    """The models of one device with the registers of one look at them."""

    def __init__(self, device: SunSpecDevice, registers: dict[int, Sequence[int]]) -> None:
        self.device = device
        self._registers = registers
        self._values: dict[int, Values] = {
            found.id: decode_model(layouts()[found.id], registers[found.id])
            for found in device.models
            if found.id in registers and found.id in layouts()
        }

    @property
    def identity(self) -> str:
        """Manufacturer, model, version and serial number."""
        common = self._values.get(1, {})
        return " ".join(str(common[key]) for key in ("Mn", "Md", "Vr", "SN") if common.get(key) is not None)

    @property
    def has_storage(self) -> bool:
        """Whether a battery hangs on the same inverter."""
        return self.device.find(124, 713, 802) is not None

    def value(self, model_id: int, name: str) -> float | None:
        """A number as it was at the survey; `None` where absent or not implemented."""
        value = self._values.get(model_id, {}).get(name)
        return float(value) if isinstance(value, int | float) else None

    def raw(self, model_id: int, name: str) -> tuple[int, ...] | None:
        """The registers of a point; `None` where the model or the point is absent or not implemented."""
        registers = self._registers.get(model_id)
        if registers is None:
            return None
        point = layouts()[model_id].point(name)
        found = tuple(registers[point.offset : point.offset + point.size])
        if len(found) < point.size or _missing(point, found):
            return None
        return found

    def address(self, model_id: int, name: str) -> int:
        """Where a point of a model that the device has begins."""
        model = self.device.find(model_id)
        assert model is not None
        return model.address + layouts()[model_id].point(name).offset

    def fields(self, model: FoundModel | None, **points: str | tuple[str, float]) -> list[Field]:
        """Fields called as the keywords for the points (or point and factor) that the device has.

        A point of a surveyed model that was not implemented at the survey is left out if it is a rating: it does not come back.
        """
        if model is None:
            return []
        found: list[Field] = []
        for name, wanted in points.items():
            point_name, factor = wanted if isinstance(wanted, tuple) else (wanted, 1.0)
            point = layouts()[model.id].point(point_name)
            if point.offset + point.size > model.length + 2:
                continue
            if model.id in RATING_MODELS and self.raw(model.id, point_name) is None:
                continue
            scale = None if point.scale is None else model.address + layouts()[model.id].point(point.scale).offset
            if scale is not None and scale >= model.end:
                continue
            found.append(Field(name=name, address=model.address + point.offset, type=point.type, scale_address=scale, factor=factor))
        return found

    def dc_ports(self, kind: str) -> list[Field]:
        """The DC power of the ports of model 714 of one kind ("pv" or "ess"), positive towards the inverter."""
        model = self.device.find(714)
        if model is None or 714 not in self._values:
            return []
        layout = layouts()[714]
        group = layout.groups[0]
        port_type = {"pv": 0, "ess": 1}[kind]
        members = self._values[714].get(group.name)
        point = next(p for p in group.points if p.name == "DCW")
        fields: list[Field] = []
        for index, member in enumerate(members if isinstance(members, list) else []):
            if member.get("PrtTyp") == port_type:
                address = model.address + layout.size + index * group.size + point.offset
                scale = model.address + layout.point("DCW_SF").offset
                fields.append(Field(name=f"{kind}{index}", address=address, type=point.type, scale_address=scale))
        return fields


RATING_MODELS = (120, 121, 702, 713, 802, 124)


def _missing(point: Point, registers: tuple[int, ...]) -> bool:
    if point.type in ("u16", "e16", "b16", "u32", "b32", "u64", "cnt"):
        return all(register == 0xFFFF for register in registers)
    if point.type in ("i16", "i32", "sf"):
        return registers[0] == 0x8000 and not any(registers[1:])
    if point.type == "f32":
        return registers[0] & 0x7F80 == 0x7F80 and bool(registers[0] & 0x7F or registers[1])
    return False


async def survey(client: RegisterClient, unit: int, bases: Sequence[int]) -> Survey:
    """Discover a device and read the models that decide what it can do."""
    device = await discover(client, unit, bases)
    registers: dict[int, Sequence[int]] = {}
    for model in device.models:
        if model.id in SURVEYED and model.id not in registers:
            try:
                registers[model.id] = await read_model(client, unit, model)
            except DeviceRefused:
                continue
    return Survey(device, registers)
