"""A real Mosquitto broker as a child process, with a generated configuration, on a free loopback port.

Without TCP_NODELAY its answers wait for 40 ms timers; with persistence a restart keeps retained messages and sessions, as a broker
in the field does. The child dies with its parent, also when the parent is killed.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from hil.errors import BrokerError
from hil.scratch import discard, scratch, scratch_folder

PLACES: Final = ("/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/opt/homebrew/sbin/mosquitto")
ROOTLESS: Final = Path(sys.prefix) / "share" / "commonwatt" / "mosquitto"
START_TIMEOUT_S: Final = 10.0
PR_SET_PDEATHSIG: Final = 1

CONFIGURATION = """\
listener {port} 127.0.0.1
allow_anonymous true
set_tcp_nodelay true
persistence true
persistence_location {folder}/
autosave_interval {autosave_s}
max_queued_messages 20000
max_inflight_messages 5000
log_dest file {folder}/mosquitto.log
log_type error
log_type warning
log_type notice
connection_messages false
{user}"""


def find_mosquitto(given: Path | None = None) -> Path | None:
    """The broker's program: as given, else on PATH, else where distributions put it, else the rootless copy."""
    if given is not None:
        if not os.access(given, os.X_OK):
            raise BrokerError(f"--mosquitto {given}: not an executable file")
        return given
    on_path = shutil.which("mosquitto")
    places = ([on_path] if on_path is not None else []) + [*PLACES, str(ROOTLESS / "usr/sbin/mosquitto")]
    return next((Path(place) for place in places if os.access(place, os.X_OK)), None)


class Broker:
    """One Mosquitto child; `start`, `stop`, and `restart` on the same port."""

    def __init__(self, program: Path | None = None, *, autosave_s: int = 1800) -> None:
        """`autosave_s`: how often sessions and retained messages are written to the disk while it runs."""
        found = find_mosquitto(program)
        if found is None:
            raise BrokerError(
                "no mosquitto on PATH or in /usr/sbin; run `commonwatt-hil broker --install`, or give --mosquitto PATH"
            )
        self._program = found
        self._autosave_s = autosave_s
        self._folder = scratch_folder("broker")
        self._child: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return None if self._child is None else self._child.pid

    def start(self) -> int:
        """Start and wait until the port answers; returns the port. Another program that takes the port first costs one more try."""
        for _ in range(3):
            port = _free_port() if self.port == 0 else self.port
            if self._launch(port):
                self.port = port
                return port
        raise BrokerError(f"{self._program} did not open its port within {START_TIMEOUT_S:.0f} s: {self._log_tail()}")

    def stop(self) -> None:
        """Stop in order; what is retained stays on disk for the next `start`."""
        if self._child is None:
            return
        self._child.terminate()
        try:
            self._child.wait(START_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child = None

    def kill(self) -> None:
        """End it as a power cut would: what was not saved is gone."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None

    def close(self) -> None:
        """Stop for good and remove the folder."""
        self.stop()
        discard(self._folder)

    def __enter__(self) -> Broker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _launch(self, port: int) -> bool:
        configuration = self._folder / "mosquitto.conf"
        configuration.write_text(self._configuration(port), encoding="utf-8")
        self._child = subprocess.Popen(
            [str(self._program), "-c", str(configuration)],
            env=_environment(self._program),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=die_with_parent if sys.platform == "linux" else None,
        )
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s and self._child.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=0.2).close()
            except OSError:
                time.sleep(0.02)
                continue
            return True
        self.stop()
        return False

    def _configuration(self, port: int) -> str:
        """What Mosquitto is told."""
        return CONFIGURATION.format(port=port, folder=self._folder, autosave_s=self._autosave_s, user=self._user())

    @staticmethod
    def _user() -> str:
        """Started by root, it must be told to stay root: it reads and writes our folder."""
        return "user root\n" if os.geteuid() == 0 else ""

    def _log_tail(self) -> str:
        log = self._folder / "mosquitto.log"
        lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
        return lines[-1] if lines else "it wrote no log"


def install_mosquitto(say: Callable[[str], None]) -> Path:
    """Install the broker where none is found: by apt as root, else into the virtual environment without root. Says what it does."""
    found = find_mosquitto()
    if found is not None:
        say(f"Mosquitto is there already: {found}")
        return found
    if shutil.which("apt-get") is None:
        raise BrokerError("no mosquitto found and no apt-get to install it with; install Mosquitto 2 and give --mosquitto PATH")
    if os.geteuid() == 0:
        say("Installing the Debian package mosquitto (apt-get install --no-install-recommends mosquitto) ...")
        _run(["apt-get", "update", "-qq"])
        _run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "mosquitto"])
    else:
        say(f"Not root: unpacking the Debian package mosquitto and the libraries it lacks below {ROOTLESS} ...")
        for package in _unpack_rootless():
            say(f"  unpacked {package}")
    found = find_mosquitto()
    if found is None:
        raise BrokerError("apt installed mosquitto, yet its program is neither on PATH nor in /usr/sbin")
    say(f"Mosquitto installed: {found}")
    return found


def _unpack_rootless() -> Iterator[str]:
    """`apt-get download` and `dpkg -x`, for mosquitto and every dependency that the system does not have."""
    ROOTLESS.mkdir(parents=True, exist_ok=True)
    with scratch("apt") as folder:
        waiting, seen = ["mosquitto"], {"mosquitto"}
        while waiting:
            package = waiting.pop()
            before = set(folder.glob("*.deb"))
            _run(["apt-get", "download", "-qq", package], cwd=folder)
            (archive,) = set(folder.glob("*.deb")) - before
            _run(["dpkg", "-x", str(archive), str(ROOTLESS)])
            yield archive.name
            depends = _run(["dpkg-deb", "-f", str(archive), "Depends"])
            for clause in filter(None, depends.replace("\n", " ").split(",")):
                names = [re.split(r"[\s(:]", alternative.strip())[0] for alternative in clause.split("|")]
                if not any(name in seen or _installed(name) for name in names):
                    seen.add(names[0])
                    waiting.append(names[0])


def _installed(package: str) -> bool:
    answer = subprocess.run(
        ["dpkg-query", "-W", "-f=${db:Status-Status}", package], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() == "installed"


def _run(command: list[str], cwd: Path | None = None) -> str:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise BrokerError(f"`{' '.join(command)}` failed: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")
    return done.stdout


def _environment(program: Path) -> dict[str, str]:
    """The rootless copy finds its libraries beside itself."""
    environment = dict(os.environ)
    if program.is_relative_to(ROOTLESS):
        folders = sorted({str(library.parent) for library in ROOTLESS.rglob("*.so.*")})
        environment["LD_LIBRARY_PATH"] = ":".join([*folders, environment.get("LD_LIBRARY_PATH", "")]).strip(":")
    return environment


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def die_with_parent() -> None:
    """Between fork and exec: the child is ended when the thread that started it is gone."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
