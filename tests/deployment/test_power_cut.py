"""The power goes at any moment: what lies on the disk is the old or the new, and nothing that was acknowledged is lost."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from edge.leadership.files import read_whole, write_whole
from edge.store import Store
from hil.broker import die_with_parent
from hil.devices.house import HouseSpec
from protocols.files import read_private, write_private
from protocols.messages import ControlResponse, EnvelopeControl, EnvelopeSchedule, ResponseStatus
from protocols.topics import control_topic
from tests.deployment.community import NAME, Brokers, Client, Community, Voice, until
from tests.deployment.community import ROOT as TOPICS
from tests.deployment.unkind_disk import UnkindDisk
from tests.edge.commissioning.household import CommissionedHouse
from tests.edge.test_store import a_state
from tests.edge.world import NODE


def by_store(folder: Path, number: int) -> None:
    assert Store(folder / "kept", node=NODE).save(a_state(number)) is None


def of_store(folder: Path) -> object:
    state, finding = Store(folder / "kept", node=NODE).load()
    assert finding is None
    return state.sequence


def by_secret(folder: Path, number: int) -> None:
    write_private(folder / "kept", b"%d" % number * 100)


def of_secret(folder: Path) -> object:
    data = read_private(folder / "kept")
    assert len(data) == 100
    return int(data[:1])


def by_record(folder: Path, number: int) -> None:
    write_whole(folder / "kept", b"%d" % number)


def of_record(folder: Path) -> object:
    body = read_whole(folder / "kept")
    assert body is not None
    return int(body)


@pytest.mark.parametrize(("write", "read"), [(by_store, of_store), (by_secret, of_secret), (by_record, of_record)])
def test_a_power_cut_at_any_moment_leaves_the_old_or_the_new_and_never_takes_back_what_was_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path, int], None], read: Callable[[Path], object]
) -> None:
    folder, scratch = tmp_path / "disk", tmp_path / "scratch"
    folder.mkdir()
    write(folder, 1)
    found: set[object] = set()
    with monkeypatch.context() as patched:
        unkind: list[UnkindDisk] = []

        def look() -> None:
            found.update(read(after) for after in unkind[0].after_a_cut(scratch))

        unkind.append(UnkindDisk(folder, patched, look))
        for number in (2, 3):
            found.clear()
            write(folder, number)
            assert found == {number - 1, number}, "both are possible while it is written"
            assert {read(after) for after in unkind[0].after_a_cut(scratch)} == {number}, "once it is done, it is done"
        assert unkind[0].moments >= 8
        unkind[0].close()


def test_the_unkind_disk_bites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that syncs nothing, and one that forgets the name, are found out."""
    folder = tmp_path / "disk"
    folder.mkdir()
    by_record(folder, 1)

    def left() -> set[bytes]:
        return {(after / "kept").read_bytes() for after in unkind.after_a_cut(tmp_path / "scratch")}

    with monkeypatch.context() as patched:
        unkind = UnkindDisk(folder, patched, lambda: None)
        before = (folder / "kept").read_bytes()
        (folder / "new").write_bytes(b"unsynced")
        (folder / "new").replace(folder / "kept")
        assert left() == {before, b"unsynced", b"unsy", b"", b"\0" * 8}
        with (folder / "new").open("wb") as file:
            file.write(b"synced")
            file.flush()
            os.fsync(file.fileno())
        (folder / "new").replace(folder / "kept")
        assert b"synced" in left() and before in left(), "the name was not synced"
        unkind.close()


class Edge:
    """`commonwatt-edge run` as a process."""

    def __init__(self, config: Path) -> None:
        self._config = config
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "edge.cli", "--log-level", "error", "run", "--config", str(self._config)]
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(command, env=environment, preexec_fn=die_with_parent)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(20)


@pytest.mark.slow
async def test_whatever_the_edge_has_answered_is_on_its_disk_when_it_is_killed(tmp_path: Path) -> None:
    """SIGKILL at drawn moments under a stream of schedules; what a power cut does beyond that is the unkind disk's part."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    async with CommissionedHouse(HouseSpec(ev_max_a=0.0, pv_w=0.0, battery_wh=0.0)) as house:
        community = Community(tmp_path)
        config = tmp_path / "h07.toml"
        config.write_text(
            "[site]\nimport_rating_w = 14490.0\nexport_rating_w = 5000.0\n[control]\ncycle_s = 0.2\nrespond_to_all = true\n"
            f'[[devices]]\nname = "meter"\nkind = "meter"\nhost = "127.0.0.1"\nport = {house.endpoints[0].port}\n'
        )
        await asyncio.to_thread(community.enrol, "h07", "load18")
        with Brokers(community, "mosquitto"):
            edge = Edge(config)
            try:
                await asyncio.to_thread(_hammer, community, edge, rng)
            finally:
                edge.kill()


def _hammer(community: Community, edge: Edge, rng: random.Random) -> None:
    voice = Voice(community)
    store = Store(community.base / "state.json", node="h07")
    sent: list[str] = []

    def send(listener: Client) -> None:
        now_s = time.time()
        control = EnvelopeControl(
            mrid=f"c{len(sent)}", creation_time_s=now_s, start_s=now_s + 7200.0 + 10.0 * len(sent), duration_s=9.0, export_limit_w=1000.0
        )
        schedule = EnvelopeSchedule(sender="coordinator", time_s=now_s, sequence=int(now_s * 1e6), node="h07", controls=(control,))
        voice.say_through(listener, voice.signer.seal(control_topic(NAME, "h07", "envelope"), schedule))
        sent.append(control.mrid)

    with Client(community, voice.identity, "listener") as listener:
        listener.subscribe(f"{TOPICS}/node/h07/+")

        def answered() -> set[str]:
            said = [payload for topic, payload in list(listener.heard) if topic.endswith("/response")]
            responses = [msgspec.json.decode(payload, type=ControlResponse) for payload in said]
            return {response.mrid for response in responses if response.status is ResponseStatus.RECEIVED}

        def kept() -> set[str]:
            state = store.peek()
            return set() if state is None else {pending.control.mrid for pending in state.control.pending}

        edge.start()
        until(lambda: any(topic.endswith("/status") for topic, _ in list(listener.heard)), "the edge's session at the broker", 60.0)
        for _ in range(8):
            send(listener)
            until(lambda: sent[-1] in answered(), "an answer", 60.0)
            for _ in range(rng.randint(1, 5)):
                send(listener)
            time.sleep(rng.uniform(0.0, 0.4))
            edge.kill()
            said = answered()
            assert said <= kept(), f"answered and lost: {sorted(said - kept())}"
            edge.start()
        until(lambda: set(sent) <= kept(), "every control that was ever sent", 60.0)
        edge.kill()
