"""The services under systemd: what they tell it, what a hanging or failing cycle does not, and how far the units are locked in."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
from collections.abc import Iterator
from configparser import RawConfigParser
from pathlib import Path

import pytest

from edge.runner import manager_observer, run_agent
from edge.values import Reading
from protocols.clock import SystemClock
from protocols.service_manager import ServiceManager
from tests.edge.world import World, make_config

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
NAMES = ("commonwatt-edge.service", "commonwatt-coordinator.service")


class Manager:
    """A service manager's socket, as a path or in the abstract name space."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)
        self.socket.setblocking(False)
        self.environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000"}

    def heard(self) -> list[str]:
        """Every line since the last call."""
        lines: list[str] = []
        while True:
            try:
                lines += self.socket.recv(4096).decode().split("\n")
            except BlockingIOError:
                return lines


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(str(tmp_path / "notify") if request.param == "path" else f"@commonwatt-test-{tmp_path.name}-{id(tmp_path)}")
    yield manager
    manager.socket.close()


def test_the_first_turn_makes_ready_and_each_one_feeds_the_watchdog(manager: Manager) -> None:
    said = ServiceManager(manager.environment, patience_s=600.0)
    said.alive("default")
    assert manager.heard() == ["READY=1", "WATCHDOG_USEC=600000000", "WATCHDOG=1", "STATUS=default"]
    said.alive("default")
    assert manager.heard() == ["WATCHDOG=1"]
    said.alive("controlled:\nall is well")
    assert manager.heard() == ["WATCHDOG=1", "STATUS=controlled: all is well"]
    said.stopping()
    assert manager.heard() == ["STOPPING=1"]


def test_a_shorter_cycle_never_shortens_what_the_unit_says(manager: Manager) -> None:
    ServiceManager(manager.environment, patience_s=10.0).alive()
    assert manager.heard() == ["READY=1", "WATCHDOG=1"]


def test_without_a_manager_or_with_a_deaf_one_nothing_is_said_and_nothing_breaks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ServiceManager({}).alive("default")
    assert caplog.text == ""
    deaf = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "nobody"), "WATCHDOG_USEC": "soon"})
    deaf.alive("default")
    deaf.alive("default")
    assert caplog.text.count("cannot be told") == 1
    assert not deaf.is_watched


async def test_cycles_that_end_feed_the_watchdog_and_cycles_that_fail_do_not(tmp_path: Path, manager: Manager) -> None:
    world = World(tmp_path, config=make_config(tmp_path, cycle_s=10.0))
    observers = (manager_observer(ServiceManager(manager.environment)),)
    await run_agent(world.agent, clock=SystemClock(), cycle_s=0.01, stop=asyncio.Event(), cycles=3, observers=observers)
    assert manager.heard().count("WATCHDOG=1") == 3

    def crash(reading: Reading, now_s: float, **_: float) -> None:
        raise RuntimeError("a defect that every cycle meets")

    broken = World(tmp_path, config=make_config(tmp_path, cycle_s=10.0))
    observers = (manager_observer(ServiceManager(manager.environment)),)
    broken.agent._means.add = crash  # type: ignore[assignment,method-assign]
    await run_agent(broken.agent, clock=SystemClock(), cycle_s=0.01, stop=asyncio.Event(), cycles=3, observers=observers)
    assert manager.heard() == []
    assert broken.battery.setpoint is not None, "a failing cycle still leaves the devices safe"


async def test_a_hanging_device_cannot_feed_the_watchdog(tmp_path: Path, manager: Manager) -> None:
    world = World(tmp_path, config=make_config(tmp_path, cycle_s=10.0))
    hanging = asyncio.Event()

    async def hang(now_s: float) -> Reading:
        await hanging.wait()
        raise AssertionError("nobody lets it go on")

    world.meter.read = hang  # type: ignore[method-assign]
    observers = (manager_observer(ServiceManager(manager.environment)),)
    task = asyncio.create_task(
        run_agent(world.agent, clock=SystemClock(), cycle_s=0.01, stop=asyncio.Event(), cycles=1, observers=observers)
    )
    for _ in range(50):
        await asyncio.sleep(0)
    assert manager.heard() == []
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def unit(name: str) -> RawConfigParser:
    parser = RawConfigParser(strict=False, delimiters=("=",), allow_no_value=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string((UNITS / name).read_text(encoding="utf-8"))
    return parser


@pytest.mark.parametrize("name", NAMES)
def test_a_unit_is_watched_restarted_and_nobody_in_particular(name: str) -> None:
    service = unit(name)["Service"]
    assert service["Type"] == "notify"
    assert service["User"] == name.removesuffix(".service")
    assert service["Restart"] == "always"
    assert service["StateDirectory"] == service["User"]
    assert service["CapabilityBoundingSet"] == ""
    assert int(service["WatchdogSec"].removesuffix("s")) <= 300
    assert service["RestartPreventExitStatus"] == "2", "what the command line returns for a configuration that cannot be used"
    assert unit(name)["Unit"]["StartLimitIntervalSec"] == "0", "a controller is never given up"


def test_the_edge_does_not_wait_for_the_internet_before_it_controls() -> None:
    described = unit("commonwatt-edge.service")["Unit"]
    assert "network-online" not in described.get("After", "") + described.get("Wants", "") + described.get("Requires", "")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("name", [*NAMES, "commonwatt-broker@.service", "commonwatt-page.service"])
def test_systemd_finds_little_to_attack(name: str) -> None:
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=20", "--no-pager", str(UNITS / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout[-400:] + done.stderr
    verified = subprocess.run(["systemd-analyze", "verify", str(UNITS / name)], capture_output=True, text=True, check=False, timeout=60)
    findings = [line for line in verified.stderr.splitlines() if name in line and "is not executable" not in line and "man " not in line]
    assert findings == []
