"""The point tables of the edge against the model definitions in the sunspec2 package (pysunspec2 1.3.7, SunSpec Alliance)."""

import pytest
import sunspec2.device

from edge.devices.sunspec.layout import layouts

KINDS = {"u16": "uint16", "i16": "int16", "u32": "uint32", "i32": "int32", "u64": "uint64", "f32": "float32", "a32": "acc32"}
KINDS |= {"a64": "acc64", "e16": "enum16", "b16": "bitfield16", "b32": "bitfield32", "sf": "sunssf", "cnt": "count", "pad": "pad"}
KINDS |= {"str": "string"}

Row = tuple[str, str, int, int, str | None, bool]


def published(points: list[dict[str, object]]) -> list[Row]:
    rows: list[Row] = []
    offset = 0
    for point in points:
        scale = str(point["sf"]).strip() if point.get("sf") is not None else None
        size = int(str(point["size"]))
        rows.append((str(point["name"]), str(point["type"]), offset, size, scale, point.get("access") == "RW"))
        offset += size
    return rows


def ours(points: object) -> list[Row]:
    return [(p.name, KINDS[p.type], p.offset, p.size, p.scale, p.writable) for p in points]  # type: ignore[attr-defined]


@pytest.mark.parametrize("model_id", sorted(layouts()))
def test_every_point_lies_where_the_published_model_has_it(model_id: int) -> None:
    layout = layouts()[model_id]
    definition = sunspec2.device.get_model_def(model_id)["group"]
    assert layout.name == definition["name"]
    assert ours(layout.points) == published(definition["points"])
    groups = definition.get("groups", [])
    assert [group.name for group in layout.groups] == [group["name"] for group in groups]
    for group, expected in zip(layout.groups, groups, strict=True):
        assert ours(group.points) == published(expected["points"])
        assert (group.count is None) == (expected.get("count", 1) == 1)


def test_the_models_that_the_edge_promises_are_there() -> None:
    promised = {1, 101, 102, 103, 111, 112, 113, 120, 121, 122, 123, 124, 160, 201, 202, 203, 204}
    promised |= {701, 702, 703, 704, 713, 714, 715, 802}
    assert promised == set(layouts())
