"""The community's envelope on the page where homes tell nothing: from what the coordinator says to them, by the rules of the standard."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from coordinator.config import AggregationSection
from coordinator.network.cases import load
from coordinator.page.board import Board
from coordinator.page.commanded import Commanded
from coordinator.page.estimate import Estimator
from hil.page_world import home_name, write_network
from protocols import codec
from protocols.bus import BusMessage
from protocols.messages import DefaultControl, EnvelopeControl, EnvelopeSchedule
from protocols.topics import control_topic
from tests.page.test_views import HOMES, config

NOW_S = 1_000_000.0


def control(mrid: str, import_limit_w: float, *, start_s: float = NOW_S, created_s: float = NOW_S, primacy: int = 1) -> EnvelopeControl:
    return EnvelopeControl(
        mrid=mrid, creation_time_s=created_s, start_s=start_s, duration_s=300.0, primacy=primacy, import_limit_w=import_limit_w
    )


def schedule(*controls: EnvelopeControl, node: str = "h", time_s: float = NOW_S, cancelled: tuple[str, ...] = ()) -> EnvelopeSchedule:
    return EnvelopeSchedule(sender="coordinator", time_s=time_s, sequence=1, node=node, controls=controls, cancelled=cancelled)


def default(node: str = "h") -> DefaultControl:
    return DefaultControl(
        sender="coordinator", time_s=NOW_S, sequence=1, node=node, mrid="default", export_limit_w=0.0, import_limit_w=4000.0
    )


def test_lower_primacy_holds_then_the_newer_and_each_direction_by_itself() -> None:
    known = Commanded()
    known.take(default())
    known.take(schedule(control("a", 1000.0), control("b", 2000.0, created_s=NOW_S + 1.0), control("c", 3000.0, primacy=2)))
    assert known.limits("h", NOW_S) == (2000.0, 0.0), "no control names an export limit, so the default's 0 W holds"
    known.take(schedule(control("d", 500.0, primacy=0)))
    assert known.limits("h", NOW_S) == (500.0, 0.0)


def test_a_control_ends_and_is_cancelled_by_name_only() -> None:
    known = Commanded()
    known.take(default())
    known.take(schedule(control("a", 1000.0), control("b", 2000.0, start_s=NOW_S + 300.0)))
    known.take(schedule(control("later", 900.0, start_s=NOW_S + 600.0)))
    assert known.limits("h", NOW_S + 299.0)[0] == 1000.0, "a vanished control is not a cancelled one"
    assert known.limits("h", NOW_S + 300.0)[0] == 2000.0
    known.take(schedule(cancelled=("b",)))
    assert known.limits("h", NOW_S + 300.0) == (4000.0, 0.0)
    assert known.limits("nobody", NOW_S) == (None, None)


def test_what_is_remembered_of_a_node_is_bounded() -> None:
    known = Commanded()
    for number in range(30):
        known.take(schedule(*(control(f"{number}-{part}", 1.0, start_s=NOW_S + 1.0 * part) for part in range(90))))
    known.take(schedule(control("new", 7.0, created_s=NOW_S + 5.0)))
    assert known.limits("h", NOW_S)[0] == 7.0
    assert len(known._controls["h"]) <= 512


@pytest.mark.parametrize("open_page", [False, True])
def test_homes_that_sum_in_secret_are_shown_with_the_envelope_of_all_and_no_power(tmp_path: Path, open_page: bool) -> None:
    write_network(tmp_path, HOMES)
    settings = msgspec.structs.replace(config(open_page=open_page), aggregation=AggregationSection(enabled=True))
    board = Board(settings, Estimator(settings, load(str(tmp_path), vmin_pu=0.94, vmax_pu=1.1)))
    names = [home_name(number) for number in range(HOMES)]
    for name in names[:-1]:
        message = BusMessage(topic=control_topic("talk", name, "default"), payload=codec.encode(default(name)))
        assert board.take(message)
    assert board.public_view().total is None, "a sum over some of them is none"
    board.take(BusMessage(topic=control_topic("talk", names[-1], "default"), payload=codec.encode(default(names[-1]))))
    sent = schedule(control("a", 1000.0), node=names[0])
    board.take(BusMessage(topic=control_topic("talk", names[0], "envelope"), payload=codec.encode(sent)))
    for total in (board.public_view().total, board.feeder_view().total):
        assert total is not None
        assert (total.net_import_w, total.import_limit_w, total.export_limit_w) == (None, 1000.0 + 4000.0 * (HOMES - 1), 0.0)
    assert (board.home(names[0]).import_limit_w, board.home(names[0]).net_import_w) == (1000.0, None)
    assert [point[1].import_limit_w for point in board.points] == [77_000.0]
