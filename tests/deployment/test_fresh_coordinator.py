"""The coordinator's package on a bare Debian machine: founded by root, served by nobody in particular, restarted when it is killed.

Needs what `test_fresh_debian` needs. The household that is admitted is enrolled from the machine around it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge.cli import main as edge_main
from hil.broker import _free_port
from tests.deployment.community import until
from tests.deployment.machine import Machine, bootstrap, missing

ROOT = Path(__file__).parents[2]
FOLDER = "/var/lib/commonwatt-coordinator/community"
UNITS = "commonwatt-broker@mosquitto commonwatt-coordinator"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500), pytest.mark.skipif(bool(missing()), reason=missing() or "possible here")]


def test_a_community_is_founded_and_served_as_the_package_installs_it(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "deploy" / "build_deb.py"), "coordinator", "--out", str(tmp_path)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    package, root = Path(built.stdout.strip()), tmp_path / "debian"
    bootstrap(root)
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    with Machine(root, f"cwc{os.getpid()}") as machine:
        home = root / "root"
        shutil.copy(package, home / package.name)

        def give(line: str) -> str:
            done = machine.run(line)
            print(f"# {line}\n{done.stdout}{done.stderr}")
            assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
            return done.stdout.strip()

        give(f"apt-get update && apt-get install -y ./{package.name}")
        ports = f"--port {_free_port()} --websockets-port {_free_port()}"
        give(f"commonwatt-coordinator init {FOLDER} --community street --network ieee33 --host 127.0.0.1 {ports}")
        give(f"commonwatt-coordinator enrol h07 --folder {FOLDER} --connection load18 --out h07.bundle")
        enrol = ["enrol", str(home / "h07.bundle"), "--folder", str(tmp_path / "identity"), "--out", str(home / "h07.request")]
        assert edge_main(enrol) == 0
        give(f"commonwatt-coordinator accept h07.request --folder {FOLDER} --out h07.answer")
        give(f"systemctl enable --now {UNITS}")
        log = "journalctl -u commonwatt-coordinator --no-pager"
        until(lambda: "connected to broker" in machine.run(log).stdout, "the coordinator to reach its broker", 60.0)
        assert give("stat -c %U /proc/$(systemctl show commonwatt-coordinator --value --property MainPID)") == "commonwatt-coordinator"
        owner_of = {
            "keys/coordinator.key": "commonwatt-coordinator",
            "authority/authority.key": "root",
            "passphrase": "root",
            "broker": "mosquitto",
        }
        for name, owner in owner_of.items():
            assert give(f"stat -c %U {FOLDER}/{name}") == owner, "the service has what it needs, and not the authority's key"
        for unit in UNITS.split():
            give(f"systemd-analyze security --threshold=20 {unit} --no-pager >/dev/null")
            give(f"systemctl kill --signal=KILL {unit}")
            machine.until(f"[ $(systemctl show {unit} --value --property NRestarts) -ge 1 ] && systemctl is-active --quiet {unit}", 120.0)
        members = give(f"sha256sum {FOLDER}/members.json {FOLDER}/keys/coordinator.key")
        give(f"apt-get install -y --reinstall ./{package.name}")
        machine.until("systemctl is-active --quiet commonwatt-coordinator", 120.0)
        assert give(f"sha256sum {FOLDER}/members.json {FOLDER}/keys/coordinator.key") == members
