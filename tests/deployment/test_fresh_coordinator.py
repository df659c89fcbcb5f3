"""The coordinator's package on a bare Debian machine: founded by root, served by nobody in particular, upgraded, booted, and its page.

Needs what `test_fresh_debian` needs. The household that is admitted is enrolled from the machine around it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.cli import main as edge_main
from hil.broker import _free_port
from tests.deployment.community import until
from tests.deployment.machine import Machine, bootstrap, missing, repacked

ROOT = Path(__file__).parents[2]
FOLDER = "/var/lib/commonwatt-coordinator/community"
UNITS = ("commonwatt-broker@mosquitto", "commonwatt-broker@page", "commonwatt-coordinator", "commonwatt-page")
KEPT = ("members.json", "community.json", "coordinator.toml", "passphrase", "page.tokens", "keys/coordinator.key", "keys/tls.key",
        "authority/authority.key", "broker/broker.key", "broker/acl", "broker/revoked.pem")  # fmt: skip
OWNERS = {
    "keys/coordinator.key": "commonwatt-coordinator",
    "coordinator.db": "commonwatt-coordinator",
    "authority/authority.key": "root",
    "passphrase": "root",
    "broker": "mosquitto",
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500), pytest.mark.skipif(bool(missing()), reason=missing() or "possible here")]


class Place:
    """The machine with the package installed, a community founded and one household admitted."""

    def __init__(self, machine: Machine, package: Path, page_port: int) -> None:
        self.machine, self.package, self.page_port = machine, package, page_port

    def give(self, line: str) -> str:
        done = self.machine.run(line)
        print(f"# {line}\n{done.stdout}{done.stderr}")
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout.strip()

    def show(self, unit: str, name: str) -> str:
        return self.give(f"systemctl show {unit} --value --property {name}")

    def rows(self, table: str) -> int:
        """How many rows the store has; what was acknowledged to nodes is among them."""
        program = f"import sqlite3; print(sqlite3.connect('{FOLDER}/coordinator.db').execute('SELECT count(*) FROM {table}').fetchone()[0])"
        return int(self.give(f'python3 -c "{program}"'))

    def all_are_up(self) -> None:
        for unit in UNITS:
            self.machine.until(f"systemctl is-active --quiet {unit}", 120.0)
        for unit in UNITS[2:]:
            log = f"journalctl --no-pager _PID=$(systemctl show {unit} --value --property MainPID)"
            self.machine.until(f"{log} | grep -q 'connected to broker'", 120.0)
        until(self.page_answers, "the page to answer", 60.0)

    def page_answers(self) -> bool:
        """Whether the page is served; it listens a moment after its process has begun."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.page_port}/", timeout=20) as answer:
                return b"Commonwatt" in answer.read()
        except urllib.error.URLError:
            return False


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    base = tmp_path_factory.mktemp("coordinator")
    command = [sys.executable, str(ROOT / "deploy" / "build_deb.py"), "coordinator", "--out", str(base)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    root = base / "debian"
    bootstrap(root)
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    with Machine(root, f"cwc{os.getpid()}") as machine:
        place = Place(machine, Path(built.stdout.strip()), _free_port())
        home = root / "root"
        shutil.copy(place.package, home / place.package.name)
        place.give(f"apt-get update && apt-get install -y ./{place.package.name}")
        ports = f"--port {_free_port()} --websockets-port {_free_port()} --page-port {_free_port()}"
        place.give(f"commonwatt-coordinator init {FOLDER} --community street --network ieee33 --host 127.0.0.1 {ports}")
        place.give(f"sed -i 's/^port = 8080$/port = {place.page_port}/' {FOLDER}/coordinator.toml")
        place.give(f"commonwatt-coordinator enrol h07 --folder {FOLDER} --connection load18 --out h07.bundle")
        enrol = ["enrol", str(home / "h07.bundle"), "--folder", str(base / "identity"), "--out", str(home / "h07.request")]
        assert edge_main(enrol) == 0
        place.give(f"commonwatt-coordinator accept h07.request --folder {FOLDER} --out h07.answer")
        place.give(f"systemctl enable --now {' '.join(UNITS)}")
        yield place


def test_a_community_is_served_as_the_package_installs_it_and_its_page_answers(place: Place) -> None:
    place.all_are_up()
    for unit, user in zip(UNITS, ("mosquitto", "mosquitto", "commonwatt-coordinator", "commonwatt-coordinator"), strict=True):
        assert place.give(f"stat -c %U /proc/{place.show(unit, 'MainPID')}") == user
    for name, owner in OWNERS.items():
        assert place.give(f"stat -c %U {FOLDER}/{name}") == owner, "the service has what it needs, and not the authority's key"


def test_every_unit_gives_little_to_attack_and_is_started_again_when_it_is_killed(place: Place) -> None:
    for unit in UNITS:
        print(place.give(f"systemd-analyze security --threshold=20 {unit} --no-pager | tail -1"))
        place.give(f"systemd-analyze security --threshold=20 {unit} --no-pager >/dev/null")
        before = int(place.show(unit, "NRestarts"))
        place.give(f"systemctl kill --signal=KILL {unit}")
        place.machine.until(f"[ $(systemctl show {unit} --value --property NRestarts) -gt {before} ]", 60.0)
    place.all_are_up()


def test_an_upgrade_and_a_downgrade_keep_keys_settings_and_store(place: Place, tmp_path: Path) -> None:
    digest = f"cd {FOLDER} && sha256sum {' '.join(KEPT)} && stat -c '%n %U %a' {' '.join(KEPT)}"
    before = place.give(digest)
    place.machine.until(f"[ $(stat -c %s {FOLDER}/coordinator.db) -gt 0 ]")
    newer = repacked(place.package, "0.9.0~bookworm", tmp_path)
    shutil.copy(newer, place.machine.root / "root" / newer.name)
    for name, options in ((newer.name, ""), (place.package.name, "--allow-downgrades")):
        counted = {table: place.rows(table) for table in ("envelopes", "controls", "events")}
        assert counted["controls"] > 0 and counted["envelopes"] > 0
        pids = [place.show(unit, "MainPID") for unit in UNITS]
        place.give(f"apt-get install -y {options} ./{name}")
        place.all_are_up()
        now = [place.show(unit, "MainPID") for unit in UNITS]
        assert now[:2] == pids[:2], "the brokers, which are Debian's, keep every connection"
        assert all(new != old for new, old in zip(now[2:], pids[2:], strict=True)), "the new version runs"
        assert place.give("dpkg-query -W -f '${Version}' commonwatt-coordinator") == name.split("_")[1]
        assert place.give(digest) == before
        assert all(place.rows(table) >= count for table, count in counted.items())
    assert "h07" in place.give(f"commonwatt-coordinator members --folder {FOLDER}")


def test_after_a_power_cut_the_machine_boots_into_service(place: Place) -> None:
    counted = place.rows("controls")
    place.machine.pull_the_plug()
    place.machine.boot()
    place.all_are_up()
    began = int(place.give("systemctl show --value --property UserspaceTimestampMonotonic"))
    for unit in UNITS:
        ready = int(place.show(unit, "ActiveEnterTimestampMonotonic"))
        print(f"{unit}: {(ready - began) / 1e6:.1f} s from the start of the system")
    assert place.rows("controls") >= counted
