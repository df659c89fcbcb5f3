"""Where each point of a SunSpec model lies, how wide it is and what its raw numbers mean.

The layouts are read from `sunspec_models.toml`, a table of our own; nothing here or in the rest of `hil.devices` is shared with the
driver of the edge, because a simulator that is written from the driver proves only that the driver agrees with itself.

Raw encodings: SunSpec Device Information Model Specification, section 4 (types and their not-implemented values).
"""

import functools
import tomllib
from importlib import resources
from typing import Any, NamedTuple

import msgspec


class PointType(NamedTuple):
    """Raw encoding of one point type: `struct` code, width, the value that says "not implemented", and the legal raw range."""

    code: str
    registers: int
    missing: int | float
    low: int
    high: int


TYPES: dict[str, PointType] = {
    "int16": PointType("h", 1, -0x8000, -0x7FFF, 0x7FFF),
    "int32": PointType("i", 2, -0x80000000, -0x7FFFFFFF, 0x7FFFFFFF),
    "uint16": PointType("H", 1, 0xFFFF, 0, 0xFFFE),
    "uint32": PointType("I", 2, 0xFFFFFFFF, 0, 0xFFFFFFFE),
    "uint64": PointType("Q", 4, 0xFFFFFFFFFFFFFFFF, 0, 0xFFFFFFFFFFFFFFFE),
    "acc32": PointType("I", 2, 0, 0, 0xFFFFFFFF),
    "acc64": PointType("Q", 4, 0, 0, 0x7FFFFFFFFFFFFFFF),
    "enum16": PointType("H", 1, 0xFFFF, 0, 0xFFFE),
    "bitfield16": PointType("H", 1, 0xFFFF, 0, 0x7FFF),
    "bitfield32": PointType("I", 2, 0xFFFFFFFF, 0, 0x7FFFFFFF),
    "count": PointType("H", 1, 0, 0, 0xFFFF),
    "sunssf": PointType("h", 1, -0x8000, -10, 10),
    "pad": PointType("H", 1, 0x8000, 0x8000, 0x8000),
    "float32": PointType("f", 2, float("nan"), 0, 0),
}


class PointLayout(msgspec.Struct, frozen=True, kw_only=True):
    """One point: its type, its width in registers, the point that carries its scale factor, and whether it may be written."""

    name: str
    type: str
    registers: int
    scale: str | None
    writable: bool

    @property
    def code(self) -> str:
        """The `struct` format of the raw value."""
        if self.type == "string":
            return f"{2 * self.registers}s"
        return TYPES[self.type].code

    @property
    def missing(self) -> int | float | bytes:
        """The raw value that says that this point is not implemented."""
        if self.type == "string":
            return b""
        return TYPES[self.type].missing


class ModelLayout(msgspec.Struct, frozen=True, kw_only=True):
    """A model without its ID and L: the fixed points, then the points of the group that repeats `group_count` times."""

    id: int
    points: tuple[PointLayout, ...]
    group: tuple[PointLayout, ...]
    group_count: str | None

    def expanded(self, repeats: int) -> tuple[PointLayout, ...]:
        """All points with the group repeated; a point of the n-th repetition (from 1) is named `n.point`."""
        copies = tuple(
            msgspec.structs.replace(point, name=f"{index}.{point.name}")
            for index in range(1, repeats + 1)
            for point in self.group
        )
        return self.points + copies


@functools.cache
def sunspec_layout(model_id: int) -> ModelLayout:
    """The layout of one SunSpec model; a KeyError names a model that the simulated devices do not know."""
    return _layouts()[model_id]


@functools.cache
def _layouts() -> dict[int, ModelLayout]:
    text = resources.files("hil.devices").joinpath("sunspec_models.toml").read_text(encoding="utf-8")
    layouts: dict[int, ModelLayout] = {}
    for entry in tomllib.loads(text)["model"]:
        for model_id in entry["ids"]:
            layouts[model_id] = _model(model_id, entry)
    return layouts


def _model(model_id: int, entry: dict[str, Any]) -> ModelLayout:
    return ModelLayout(
        id=model_id,
        points=tuple(_point(word) for word in entry["points"].split()),
        group=tuple(_point(word) for word in entry.get("group", "").split()),
        group_count=entry.get("group_count"),
    )


def _point(word: str) -> PointLayout:
    name, _, rest = word.partition(":")
    writable = rest.endswith("!")
    kind, _, scale = rest.rstrip("!").partition("*")
    if kind.startswith("string"):
        return PointLayout(name=name, type="string", registers=int(kind[6:]), scale=None, writable=writable)
    return PointLayout(name=name, type=kind, registers=TYPES[kind].registers, scale=scale or None, writable=writable)
