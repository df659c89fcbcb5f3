"""The layout table of the simulated devices against the SunSpec definitions in the sunspec2 package (1.3.7)."""

import json
from importlib import resources

import pytest

from hil.devices.layouts import PointLayout, sunspec_layout

MODELS = [1, 101, 102, 103, 111, 112, 113, 120, 121, 122, 123, 124, 160, 201, 202, 203, 204, 211, 212, 213, 214]
MODELS += [701, 702, 703, 704, 713, 714, 715, 802]

OWN_NAMES = {
    **{f"PhVph{pair}": f"PPVph{pair}" for pair in ("AB", "BC", "CA")},
    **{
        f"TotVArh{quadrant}ph{phase}": f"TotVArh{quadrant}Ph{phase}"
        for quadrant in ("ImpQ1", "ImpQ2", "ExpQ3", "ExpQ4")
        for phase in "ABC"
    },
}
"""Models of one family differ in the spelling of names that mean the same; the table keeps one spelling for each family."""


@pytest.mark.parametrize("model_id", MODELS)
def test_a_layout_is_the_one_that_sunspec_defines(model_id: int) -> None:
    path = resources.files("sunspec2").joinpath(f"models/json/model_{model_id}.json")
    group = json.loads(path.read_text(encoding="utf-8"))["group"]
    layout = sunspec_layout(model_id)
    synchronous = [sub for sub in group.get("groups", []) if sub["type"] == "sync"]
    repeating = [sub for sub in group.get("groups", []) if sub["type"] != "sync"]

    expected = [_described(point) for point in group["points"][2:]]
    for sub in synchronous:
        expected += [_described(point, f"{sub['name']}.") for point in sub["points"]]
    assert [_spelt(entry) for entry in expected] == [_spelt(_own(point)) for point in layout.points]
    assert len(repeating) == (layout.group_count is not None)
    if repeating:
        assert [_described(point) for point in repeating[0]["points"]] == [_own(point) for point in layout.group]


def test_the_repetitions_of_a_group_follow_each_other() -> None:
    names = [point.name for point in sunspec_layout(160).expanded(2)]
    assert names.index("2.ID") == names.index("1.DCEvt") + 1
    assert names[-1] == "2.DCEvt"


Entry = tuple[str, str, int, str | None, bool]


def _described(point: dict[str, object], prefix: str = "") -> Entry:
    scale = point.get("sf")
    return (
        f"{prefix}{point['name']}",
        str(point["type"]),
        int(str(point["size"])),
        None if scale is None else str(scale),
        point.get("access") == "RW",
    )


def _own(point: PointLayout) -> Entry:
    return point.name, point.type, point.registers, point.scale, point.writable


def _spelt(entry: Entry) -> Entry:
    name = OWN_NAMES.get(entry[0], entry[0])
    return (name, *entry[1:])
