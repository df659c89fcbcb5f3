"""A bare Debian machine becomes a running, enrolled edge by the commands of docs/deploy-an-edge.md, copied from there, and survives abuse.

Needs root, debootstrap, systemd-nspawn, and the network for Debian's packages and ours; the devices are the bench's, the broker is real.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.envelope_control import ControlState
from protocols.messages import DefaultControl, EnvelopeControl, EnvelopeSchedule
from tests.deployment.community import NAME, Brokers, Community, Voice, until
from tests.deployment.machine import Machine, bootstrap, missing, repacked

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "deploy-an-edge.md"
CURRENT = "/var/lib/commonwatt-edge/identity/current"
KEPT = ("/etc/commonwatt-edge/edge.toml", f"{CURRENT}/tls.key", f"{CURRENT}/signing.key")
DEVICES = ["devices", "--ev-charger", "none", "--port", "0", "--json", "--start", "12:00"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500), pytest.mark.skipif(bool(missing()), reason=missing() or "possible here")]


def commands() -> list[tuple[str, str]]:
    """Each command of the page with where it is given: (`controller` or `coordinator`, command line)."""
    found = re.findall(r"^(controller|coordinator)# (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return [(host, line) for host, line in found]


class Bench:
    """Simulated devices in a process of their own."""

    def __init__(self) -> None:
        program = [sys.executable, "-c", "import sys; from hil.cli import main; sys.exit(main(sys.argv[1:]))", *DEVICES]
        self._process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
        assert self._process.stdout is not None
        text = ""
        while not text.rstrip().endswith("]\n}"):
            line = self._process.stdout.readline()
            assert line, "the bench's devices did not start"
            text += line
        self.places = [f"127.0.0.1:{device['port']}" for device in json.loads(text)["devices"]]

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate(timeout=20)


class Site:
    """Everything around the new machine."""

    def __init__(self, base: Path, machine: Machine, community: Community, bench: Bench, package: Path) -> None:
        self.machine, self.community, self.bench, self.package = machine, community, bench, package
        self.shims = base / "shims"
        self.shims.mkdir()
        python = f'PYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)} -m coordinator.cli "$@"'
        inside = " ".join(shlex.quote(part) for part in machine.argv('exec "$@"'))
        for name, line in (("commonwatt-coordinator", python), ("ssh", f'shift; exec {inside} sh "$@"')):
            shim = self.shims / name
            shim.write_text(f"#!/bin/sh\n{line}\n")
            shim.chmod(0o755)

    def give(self, host: str, line: str) -> None:
        """Give one command of the page, with this site's addresses in the place of the page's."""
        for number, place in enumerate(self.bench.places):
            line = line.replace(f"192.168.1.4{number}", place)
        line = re.sub(r"\./commonwatt-edge_\S+\.deb", f"./{self.package.name}", line)
        line = line.replace("/var/lib/commonwatt-coordinator/community", str(self.community.folder.root))
        if host == "controller":
            done = self.machine.run(line)
        else:
            environment = {**os.environ, "PATH": f"{self.shims}:{os.environ['PATH']}"}
            done = subprocess.run(["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True, check=False, env=environment)
        print(f"{host}# {line}\n{done.stdout}{done.stderr}")
        assert done.returncode == 0, f"{line}: {done.stdout[-3000:]}{done.stderr[-3000:]}"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("package")
    done = subprocess.run(
        [sys.executable, str(ROOT / "deploy" / "build_deb.py"), "edge", "--out", str(out)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, package: Path) -> Iterator[Site]:
    base = tmp_path_factory.mktemp("site")
    root = base / "debian"
    bootstrap(root)
    community = Community(base)
    with Brokers(community, "mosquitto"), Bench() as bench, Machine(root, f"cw{os.getpid()}") as machine:
        shutil.copy(package, root / "root" / package.name)
        yield Site(base, machine, community, bench, package)


def show(machine: Machine, name: str) -> str:
    return machine.run(f"systemctl show commonwatt-edge --value --property {name}").stdout.strip()


def state_of(machine: Machine) -> dict[str, object]:
    body = machine.run("tail -n +2 /var/lib/commonwatt-edge/state.json").stdout
    decoded: dict[str, object] = json.loads(body)
    return decoded


def test_the_page_needs_at_most_ten_commands() -> None:
    assert 5 <= len(commands()) <= 10


def test_the_commands_of_the_page_make_a_running_enrolled_edge(site: Site) -> None:
    begun_s = time.monotonic()
    for host, line in commands():
        site.give(host, line)
    elapsed_s = time.monotonic() - begun_s
    print(f"{len(commands())} commands, {elapsed_s:.0f} s from a fresh Debian to a running, enrolled edge")
    assert elapsed_s <= 600.0
    machine = site.machine
    status = json.loads(machine.run("commonwatt-edge status --json").stdout)
    assert (status["node"], status["community"], status["connected"]) == ("h07", NAME, True)
    assert [device["name"] for device in status["devices"]] == ["meter", "pv", "battery"]
    assert all(device["trouble"] == "" for device in status["devices"])
    pid, user = show(machine, "MainPID"), machine.run("id -u commonwatt-edge").stdout.strip()
    assert machine.run(f"stat -c %u /proc/{pid}").stdout.strip() == user != "0"
    security = machine.run("systemd-analyze security --threshold=20 commonwatt-edge --no-pager | tail -1")
    assert security.returncode == 0
    print(security.stdout)
    log = machine.run("journalctl -u commonwatt-edge --no-pager").stdout
    secrets = [machine.run(f"sed -n 2p {path}").stdout.strip() for path in KEPT[1:]]
    assert all(secret and secret not in log for secret in secrets)


def controls_of(machine: Machine) -> tuple[object, list[str]]:
    """The default and the names of the controls on the machine's disk."""
    control = msgspec.convert(state_of(machine)["control"], ControlState)
    return control.default, [pending.control.mrid for pending in control.pending]


def send_controls(site: Site) -> list[str]:
    """A default, and six hours of envelopes ahead."""
    voice, now_s = Voice(site.community), time.time()
    common: dict[str, Any] = {"sender": "coordinator", "time_s": now_s, "node": "h07"}
    voice.control("h07", DefaultControl(**common, sequence=int(now_s * 1000), mrid="default-1", export_limit_w=0.0, import_limit_w=5000.0))
    controls = tuple(
        EnvelopeControl(mrid=f"c{i}", creation_time_s=now_s, start_s=now_s + 3600.0 * i, duration_s=3600.0, export_limit_w=1000.0 + i)
        for i in range(6)
    )
    voice.control("h07", EnvelopeSchedule(**common, sequence=int(now_s * 1000) + 1, controls=controls))
    return [control.mrid for control in controls]


def test_an_upgrade_and_a_downgrade_keep_keys_default_and_schedule(site: Site, tmp_path: Path) -> None:
    machine = site.machine
    sent = send_controls(site)
    until(lambda: controls_of(machine)[1] == sent, "the controls to be on the disk")
    default, _ = controls_of(machine)
    assert isinstance(default, DefaultControl) and default.export_limit_w == 0.0
    before = [machine.run(f"sha256sum {path}").stdout for path in KEPT]
    sequence = state_of(machine)["sequence"]
    newer = repacked(site.package, "0.9.0~bookworm", tmp_path)
    shutil.copy(newer, machine.root / "root" / newer.name)
    for name, options in ((newer.name, ""), (site.package.name, "--allow-downgrades")):
        pid = show(machine, "MainPID")
        done = machine.run(f"apt-get install -y {options} ./{name}")
        assert done.returncode == 0, done.stdout + done.stderr
        assert show(machine, "ActiveState") == "active" and show(machine, "MainPID") != pid, "the new version runs"
        assert [machine.run(f"sha256sum {path}").stdout for path in KEPT] == before
        assert machine.run("ls /var/lib/commonwatt-edge/*.damaged").returncode != 0
        later = state_of(machine)["sequence"]
        assert isinstance(later, int) and isinstance(sequence, int) and later >= sequence
        sequence = later
        assert controls_of(machine) == (default, sent)
        machine.until("commonwatt-edge status --json | grep -q '\"source\":\"control\"'")
    assert machine.until("commonwatt-edge doctor")


def test_a_hanging_edge_is_restarted_by_its_watchdog_and_a_killed_one_at_once(site: Site) -> None:
    machine = site.machine
    machine.until("commonwatt-edge doctor")
    for number in ("STOP", "KILL"):
        restarts = int(show(machine, "NRestarts"))
        assert machine.run(f"systemctl kill --signal={number} commonwatt-edge").returncode == 0
        until(lambda before=restarts: int(show(machine, "NRestarts")) > before, f"a restart after SIG{number}", 90.0)  # type: ignore[misc]
        machine.until("commonwatt-edge status", 60.0)


def test_after_a_power_cut_the_machine_boots_into_control(site: Site) -> None:
    machine = site.machine
    known = controls_of(machine)
    assert len(known[1]) == 6
    machine.pull_the_plug()
    machine.boot()
    machine.until("commonwatt-edge status", 60.0)
    began = int(machine.run("systemctl show --value --property UserspaceTimestampMonotonic").stdout)
    ready = int(show(machine, "ActiveEnterTimestampMonotonic"))
    print(f"{(ready - began) / 1e6:.1f} s from the start of the system to the first control cycle that was over")
    assert controls_of(machine) == known
    assert machine.run("commonwatt-edge doctor").returncode == 0
