"""The durable state: whole after a crash at any point, refused when it is damaged or another's, never a reason to stop."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from edge.devices.discipline import DayCount
from edge.envelope_control import ControlState, PendingControl
from edge.policy import PlanView
from edge.store import EdgeState, Store
from protocols.messages import DefaultControl
from tests.edge.world import NODE, START_S, World, control


def a_state(number: int = 1) -> EdgeState:
    default = DefaultControl(
        sender="coordinator", time_s=START_S, sequence=number, node=NODE, mrid="d", export_limit_w=float(number)
    )
    pending = [PendingControl(control=control(f"c{i}", 300.0 * i, 300.0, export_w=1000.0), start_shift_s=3.0) for i in range(3)]
    plan = PlanView(start_s=START_S, step_s=900.0, net_import_w=[1.0], battery_w=[0.0], draw_w={"car": [7.0]}, pv_limit_w=[None])
    return EdgeState(node=NODE, control=ControlState(default=default, pending=pending, term=2), sequence=number, plan=plan)


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.json", node=NODE)
    assert store.load() == (EdgeState(node=NODE), None)
    assert store.save(a_state()) is None
    assert store.load() == (a_state(), None)


@pytest.mark.parametrize("point", ["open", "write", "fsync", "replace"])
def test_a_crash_at_any_point_leaves_the_old_state_or_the_new_one(tmp_path: Path, point: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "state.json", node=NODE)
    store.save(a_state(1))

    class Crash(BaseException):
        """The power goes."""

    def crash(*args: object, **kwargs: object) -> None:
        raise Crash

    def half(descriptor: int, mode: str) -> object:
        os.write(descriptor, b"commonwatt-edge-state 1 half")
        os.close(descriptor)
        raise Crash

    target = {"open": "open", "write": "fdopen", "fsync": "fsync"}.get(point)
    if target is not None:
        monkeypatch.setattr(os, target, half if point == "write" else crash)
    else:
        monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(Crash):
        store.save(a_state(2))
    monkeypatch.undo()
    assert Store(tmp_path / "state.json", node=NODE).load() == (a_state(1), None)
    assert store.save(a_state(3)) is None
    assert store.load() == (a_state(3), None)


def test_every_cut_and_every_flipped_byte_is_found(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    Store(path, node=NODE).save(a_state())
    whole = path.read_bytes()
    damaged = [whole[:length] for length in range(0, len(whole), 7)]
    damaged += [whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :] for i in range(0, len(whole), 11)]
    for data in damaged:
        path.write_bytes(data)
        state, finding = Store(path, node=NODE).load()
        assert state == EdgeState(node=NODE)
        assert finding is not None
        assert "state.json" in finding
        assert path.with_name("state.json.damaged").read_bytes() == data


def test_the_state_of_another_node_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    Store(path, node=NODE).save(a_state())
    state, finding = Store(path, node="home-02").load()
    assert state == EdgeState(node="home-02")
    assert finding is not None
    assert "belongs to node 'home-01'" in finding


def test_a_full_disk_is_reported_and_control_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "state.json", node=NODE)
    store.save(a_state(1))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    trouble = store.save(a_state(2))
    assert trouble is not None
    assert "No space left on device" in trouble
    monkeypatch.undo()
    assert store.load() == (a_state(1), None)


def test_a_state_that_is_written_in_place_is_cut_to_its_length(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.json", node=NODE, fsync=False)
    for sequence in (5000, 7):
        assert store.save(a_state(sequence)) is None
        assert store.load() == (a_state(sequence), None)


async def test_an_edge_with_a_full_disk_keeps_the_envelope_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, battery_w=0.0)
    world.pv.available_w = 6000.0

    def full(descriptor: int, mode: str) -> None:
        os.close(descriptor)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fdopen", full)
    await world.agent.start()
    world.send_default(1500.0)
    world.send(control("a", 0.0, 3600.0, export_w=1000.0))
    await world.run(1000.0)
    assert -1000.0 <= world.meter.power_w <= -900.0
    assert any(b"No space left on device" in message.payload for message in world.heard("status"))


async def test_a_damaged_state_starts_the_edge_in_its_safe_state(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_bytes(b"garbage")
    world = World(tmp_path, battery_w=0.0)
    world.pv.available_w = 6000.0
    assert world.agent.finding is not None
    await world.agent.start()
    await world.run(60.0)
    assert -1500.0 <= world.meter.power_w <= -1400.0


async def test_a_replayed_control_is_refused_also_after_a_restart(tmp_path: Path) -> None:
    world = World(tmp_path, battery_w=0.0)
    recorded = []
    spy = world.broker.client()
    spy.connect()
    spy.subscribe("commonwatt/1/street/control/#")
    await world.agent.start()
    world.send_default(3000.0)
    world.send_default(500.0, mrid="tighter")
    await world.run(20.0)
    recorded = spy.receive()
    await world.power_cycle()
    world.pen.publish(recorded[0])
    record = await world.agent.step()
    assert any("Replayed" in refusal for refusal in record.refusals)
    assert record.limits.export is not None
    assert record.limits.export.limit_w == 500.0


async def test_an_unsigned_control_changes_nothing(tmp_path: Path) -> None:
    import msgspec

    world = World(tmp_path)
    spy = world.broker.client()
    spy.connect()
    spy.subscribe("commonwatt/1/street/control/#")
    await world.agent.start()
    world.bus.cut()
    world.send_default(9000.0)
    sealed = spy.receive()[0]
    world.broker.route(msgspec.structs.replace(sealed, payload=b"", retain=True))
    world.bus.connect()
    world.agent._bus.receive()
    world.pen.publish(msgspec.structs.replace(sealed, properties={}))
    record = await world.agent.step()
    assert any("Unsigned" in refusal for refusal in record.refusals)
    assert record.limits.export is not None
    assert record.limits.export.limit_w == 1500.0


async def test_a_restart_does_not_renew_the_budget_of_writes_that_wear(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.agent.start()
    await world.agent.step()
    world.pv.wear.day, world.pv.wear.spent = int(START_S // 86400.0), 150
    await world.agent.step()
    world.pv.wear = DayCount()
    await world.power_cycle()
    assert (world.pv.wear.day, world.pv.wear.spent) == (int(START_S // 86400.0), 150)
