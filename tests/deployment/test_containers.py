"""The images of the edge and the coordinator, built and run by the commands of the docs pages, against the bench's devices.

Needs podman with root, and the image debian:bookworm-slim in its store (`podman pull debian:bookworm-slim`; without a registry `debootstrap
--variant=minbase` and `podman import`). What a build needs beyond that on some machine, for instance volumes with the configuration of a
package index, is given in COMMONWATT_BUILD_OPTIONS. Everything is made in a store of its own, and removed with it.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.broker import _free_port
from tests.deployment.test_fresh_debian import Bench

ROOT = Path(__file__).parents[2]
BASE = "docker.io/library/debian:bookworm-slim"
STORE = "/var/lib/containers/storage"
CONTAINERS = ("commonwatt-broker", "commonwatt-page-broker", "commonwatt-coordinator", "commonwatt-page", "commonwatt-edge")
USERS = dict(zip(CONTAINERS, (882, 882, 881, 881, 880), strict=True))


def missing() -> str:
    """Why no image can be built here; empty where one can."""
    if shutil.which("podman") is None:
        return "needs podman"
    if os.geteuid() != 0:
        return "needs root, whose containers share the machine's network and processes"
    found = subprocess.run(["podman", "image", "exists", BASE], capture_output=True, check=False)
    return "" if found.returncode == 0 else f"needs the image: podman pull {BASE}"


pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def commands(page: str) -> list[str]:
    """What is typed on the machine that runs the containers."""
    return re.findall(r"^machine# (.+)$", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.MULTILINE)


class Engine:
    """Podman with a store of its own, under the name that the pages use."""

    def __init__(self, base: Path) -> None:
        self.base = base
        store = ["--root", str(base / "store"), "--runroot", str(base / "run"), "--storage-opt", f"additionalimagestore={STORE}"]
        self._podman = ["podman", *store]
        build = f"build --format docker --network host {os.environ.get('COMMONWATT_BUILD_OPTIONS', '')}"
        shim = base / "bin" / "docker"
        shim.parent.mkdir()
        line = shlex.join(self._podman)
        shim.write_text(f'#!/bin/sh\nif [ "$1" = build ]; then shift; exec {line} {build} "$@"; fi\nexec {line} "$@"\n')
        shim.chmod(0o755)

    def script(self, lines: list[str]) -> None:
        """Type these lines into one shell."""
        environment = {**os.environ, "PATH": f"{self.base / 'bin'}:{os.environ['PATH']}"}
        text = "\n".join(["cd " + shlex.quote(str(ROOT)), *lines])
        done = subprocess.run(["bash", "-e", "-x", "-c", text], capture_output=True, text=True, check=False, env=environment)
        print(done.stdout, done.stderr)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self._podman, *arguments], capture_output=True, text=True, check=False, timeout=120)

    def said(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, f"{arguments}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout.strip()

    def until(self, *arguments: str, patience_s: float = 90.0) -> str:
        """Run a command again and again until it succeeds."""
        deadline_s = time.monotonic() + patience_s
        while (done := self.run(*arguments)).returncode != 0:
            assert time.monotonic() < deadline_s, f"{arguments}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
            time.sleep(0.5)
        return done.stdout

    def remove(self) -> None:
        self.run("rm", "--force", "--time", "5", *CONTAINERS)
        self.run("rmi", "--all", "--force")
        self.run("volume", "rm", "--all", "--force")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    if reason := missing():
        pytest.skip(reason)
    engine = Engine(tmp_path_factory.mktemp("engine"))
    try:
        yield engine
    finally:
        engine.remove()


@pytest.fixture(scope="module")
def ports(engine: Engine) -> Iterator[dict[str, int]]:
    """A community, its page and one household, all in containers, by the commands of both pages."""
    ports = {name: _free_port() for name in ("port", "websockets-port", "page-port", "page", "health")}
    coordinator, edge = commands("run-a-coordinator.md"), commands("deploy-an-edge.md")
    accept = next(index for index, line in enumerate(coordinator) if line.startswith("coordinator accept"))
    answer = next(index for index, line in enumerate(edge) if line.startswith("edge enrol") and "--config" in line)
    options = " ".join(f"--{name} {ports[name]}" for name in ("port", "websockets-port", "page-port"))
    configuration = "/var/lib/commonwatt-coordinator/community/coordinator.toml"
    edits = f"s/^port = 8080/port = {ports['page']}/; s/^.page.$/[metrics]\\nenabled = true\\nport = {ports['health']}\\n\\n[page]/"
    with Bench() as bench:
        lines = [*coordinator[:accept], *edge[:answer], coordinator[accept], *edge[answer:-1], *coordinator[accept + 1 :]]
        for number, line in enumerate(lines):
            for device, place in enumerate(bench.places):
                line = line.replace(f"192.168.1.4{device}", place)
            line = re.sub(r"\bh07\.(bundle|request|answer)\b", lambda found: str(engine.base / found[0]), line)
            if line.startswith("coordinator init"):
                line += f" --host 127.0.0.1 {options}"
                edit = "docker run --rm --user root -v commonwatt:/var/lib/commonwatt-coordinator --entrypoint sed commonwatt-coordinator"
                line += f"\n{edit} -i {shlex.quote(edits)} {configuration}"
            lines[number] = line
        engine.script(lines)
        yield ports


def test_the_commands_of_the_pages_make_a_community_and_a_household_in_containers(engine: Engine, ports: dict[str, int]) -> None:
    status = engine.until("exec", "commonwatt-edge", "sh", "-c", "commonwatt-edge status --json | grep '\"connected\":true'")
    assert [device["name"] for device in json.loads(status)["devices"]] == ["meter", "pv", "battery"]
    engine.until("exec", "commonwatt-edge", "sh", "-c", "commonwatt-edge status --json | grep '\"source\":\"control\"'", patience_s=120.0)
    (last,) = [line for line in commands("deploy-an-edge.md") if line.startswith("docker exec")]
    engine.script([last])
    engine.said("healthcheck", "run", "commonwatt-edge")
    with urllib.request.urlopen(f"http://127.0.0.1:{ports['page']}/", timeout=20) as answer:
        assert b"Commonwatt" in answer.read()
    with urllib.request.urlopen(f"http://127.0.0.1:{ports['health']}/health", timeout=20) as answer:
        assert json.load(answer)["status"] in ("pass", "warn")


def test_nothing_runs_as_root_nor_writes_outside_its_volume(engine: Engine, ports: dict[str, int]) -> None:
    del ports
    for name in CONTAINERS:
        pid = engine.said("inspect", "--format", "{{.State.Pid}}", name)
        status = Path(f"/proc/{pid}/status").read_text()
        assert re.search(rf"^Uid:\t{USERS[name]}\t{USERS[name]}\t", status, re.MULTILINE), name
        assert re.search(r"^CapBnd:\t0+$", status, re.MULTILINE) and re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE), name
        assert engine.run("exec", name, "touch", "/usr/lib/here").returncode != 0, name


def test_a_household_that_is_not_well_is_seen_by_the_engine(engine: Engine, ports: dict[str, int]) -> None:
    del ports
    engine.said("pause", "commonwatt-broker")
    engine.said("kill", "--signal", "STOP", "commonwatt-edge")
    assert engine.run("exec", "commonwatt-edge", "commonwatt-edge", "status").returncode != 0, "a cycle that hangs"
    engine.said("kill", "--signal", "CONT", "commonwatt-edge")
    engine.said("unpause", "commonwatt-broker")
    engine.until("healthcheck", "run", "commonwatt-edge")


def test_a_new_container_keeps_keys_default_and_schedule(engine: Engine, ports: dict[str, int]) -> None:
    del ports
    keys = "sha256sum identity/current/tls.key identity/current/signing.key /etc/commonwatt-edge/edge.toml"
    before = engine.said("exec", "commonwatt-edge", "sh", "-c", keys)
    engine.said("stop", "commonwatt-broker")
    engine.said("rm", "--force", "--time", "10", "commonwatt-edge")
    (again,) = [line for line in commands("deploy-an-edge.md") if line.startswith("docker run --detach")]
    engine.script([again])
    assert engine.said("exec", "commonwatt-edge", "sh", "-c", keys) == before
    engine.until("exec", "commonwatt-edge", "sh", "-c", "commonwatt-edge status --json | grep '\"source\":\"control\"'")
    engine.said("start", "commonwatt-broker")


def test_a_revoked_household_is_cut_off_through_the_broker_s_container(engine: Engine, ports: dict[str, int]) -> None:
    del ports
    engine.until("exec", "commonwatt-edge", "sh", "-c", "commonwatt-edge status --json | grep '\"connected\":true'")
    (function,) = [line for line in commands("run-a-coordinator.md") if line.startswith("coordinator() {")]
    engine.script([function, "coordinator revoke h07 --folder community"])
    engine.until("exec", "commonwatt-edge", "sh", "-c", "commonwatt-edge status --json | grep '\"connected\":false'")
