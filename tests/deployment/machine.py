"""A fresh Debian machine: a root that debootstrap made, booted by systemd-nspawn with a systemd of its own, on the network of its host."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType

MIRROR = "http://deb.debian.org/debian"
TOOLS = ("debootstrap", "systemd-nspawn", "nsenter", "dpkg-deb")
BOOT_PATIENCE_S = 120.0


def missing() -> str:
    """Why there can be no such machine here; empty where there can."""
    if os.geteuid() != 0:
        return "needs root"
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"needs {', '.join(absent)}" if absent else ""


def bootstrap(root: Path) -> None:
    """A minimal Debian 12 with systemd, as an image of a small controller has it."""
    include = "systemd,systemd-sysv,dbus,ca-certificates"
    command = ["debootstrap", "--variant=minbase", f"--include={include}", "bookworm", str(root), MIRROR]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def repacked(package: Path, version: str, folder: Path) -> Path:
    """The same package under another version: what an upgrade, and a way back, is tried with."""
    tree = folder / "tree"
    subprocess.run(["dpkg-deb", "-R", str(package), str(tree)], check=True)
    control = tree / "DEBIAN" / "control"
    control.write_text(re.sub(r"^Version: .*$", f"Version: {version}", control.read_text(), flags=re.MULTILINE))
    name, _, architecture = package.stem.split("_")
    made = folder / f"{name}_{version}_{architecture}.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", str(tree), str(made)], check=True, stdout=subprocess.DEVNULL)
    return made


class Machine:
    """Booted from `root`; `run` is a root shell on it."""

    def __init__(self, root: Path, name: str) -> None:
        self.root, self.name = root, name
        self._container: subprocess.Popen[bytes] | None = None
        self.pid = 0

    def boot(self) -> None:
        command = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--console=pipe"]
        command += ["-b", "-M", self.name, "-D", str(self.root)]
        with (self.root.parent / f"{self.name}.console").open("ab") as console:
            self._container = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT)
        children = Path(f"/proc/{self._container.pid}/task/{self._container.pid}/children")
        deadline_s = time.monotonic() + BOOT_PATIENCE_S
        while True:
            assert self._container.poll() is None and time.monotonic() < deadline_s, "the machine does not boot"
            found = children.read_text().split()
            self.pid = int(found[0]) if found else 0
            if self.pid and self.run("systemctl is-system-running").stdout.strip() in ("running", "degraded"):
                return
            time.sleep(0.2)

    def argv(self, command: str) -> list[str]:
        """What runs a command line on the machine."""
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        entered = ["nsenter", "-t", str(self.pid), "-m", "-u", "-i", "-p"]
        return [*entered, "env", "-i", path, "HOME=/root", "DEBIAN_FRONTEND=noninteractive", "/bin/sh", "-c", f"cd /root; {command}"]

    def run(self, command: str, patience_s: float = 300.0) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.argv(command), capture_output=True, text=True, check=False, timeout=patience_s)

    def until(self, command: str, patience_s: float = 90.0) -> str:
        """Run a command again and again until it succeeds; returns what it says then."""
        deadline_s = time.monotonic() + patience_s
        while (done := self.run(command)).returncode != 0:
            assert time.monotonic() < deadline_s, f"{command}: {done.stdout[-1500:]}{done.stderr[-1500:]}"
            time.sleep(0.5)
        return done.stdout

    def pull_the_plug(self) -> None:
        """End everything on it at once."""
        if self._container is not None and self._container.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
            self._container.wait(30)

    def __enter__(self) -> Machine:
        self.boot()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.pull_the_plug()
