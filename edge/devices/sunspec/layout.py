"""The point tables of the SunSpec models as values, parsed once on first use."""

import functools

import msgspec

from edge.devices.decode import NUMBER_TYPES
from edge.devices.sunspec.tables import LAYOUTS


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One point; `offset` counts registers from the ID of the model, or from the start of its group."""

    name: str
    type: str
    offset: int
    size: int
    scale: str | None = None
    unit: str = ""
    writable: bool = False

    @property
    def is_string(self) -> bool:
        """Whether the point holds text."""
        return self.type == "str"


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """A group of points behind the fixed ones; it repeats as often as the point `count` says, or stands once when that is `None`."""

    name: str
    count: str | None
    points: tuple[Point, ...]
    size: int


class ModelLayout(msgspec.Struct, frozen=True, kw_only=True):
    """One information model; `size` is the number of registers before the groups, ID and L included."""

    id: int
    name: str
    points: tuple[Point, ...]
    groups: tuple[Group, ...]
    size: int

    def point(self, name: str) -> Point:
        """The fixed point of that name."""
        return next(p for p in self.points if p.name == name)


@functools.cache
def layouts() -> dict[int, ModelLayout]:
    """Every model that the edge knows, by its identifier."""
    found: dict[int, ModelLayout] = {}
    for section in LAYOUTS.strip().split("model ")[1:]:
        heading, _, body = section.partition("\n")
        points, groups, size = _parse(body.split())
        for entry in heading.split():
            number, _, name = entry.partition("=")
            found[int(number)] = ModelLayout(id=int(number), name=name, points=points, groups=groups, size=size)
    return found


def _parse(tokens: list[str]) -> tuple[tuple[Point, ...], tuple[Group, ...], int]:
    fixed: list[Point] = [
        Point(name="ID", type="u16", offset=0, size=1),
        Point(name="L", type="u16", offset=1, size=1),
    ]
    groups: list[Group] = []
    size = 2
    inside: list[Point] = []
    heading: str | None = None
    offset = 0
    for token in tokens:
        if token.startswith("["):
            heading, inside, offset = token[1:], [], 0
        elif token == "]":
            assert heading is not None
            name, _, count = heading.partition("/")
            groups.append(Group(name=name, count=count or None, points=tuple(inside), size=offset))
            heading = None
        elif heading is not None:
            inside.append(_point(token, offset))
            offset += inside[-1].size
        else:
            fixed.append(_point(token, size))
            size += fixed[-1].size
    return tuple(fixed), tuple(groups), size


def _point(token: str, offset: int) -> Point:
    writable = token.endswith("!")
    token, _, unit = token.rstrip("!").partition("@")
    token, _, scale = token.partition("*")
    name, _, kind = token.partition(":")
    if kind == "pad":
        return Point(name=name, type="pad", offset=offset, size=1)
    if kind[0] == "s" and kind[1:].isdigit():
        return Point(name=name, type="str", offset=offset, size=int(kind[1:]), writable=writable)
    size = NUMBER_TYPES[kind].size
    return Point(name=name, type=kind, offset=offset, size=size, scale=scale or None, unit=unit, writable=writable)
