"""A run leaves nothing behind, however it ends short of a power cut."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from hil import scratch as scratch_module
from hil.broker import Broker, find_mosquitto
from hil.scratch import discard, scratch, scratch_folder

needs_mosquitto = pytest.mark.skipif(find_mosquitto() is None, reason="no mosquitto on this machine")


def test_a_scratch_folder_is_gone_after_its_context_also_when_that_fails() -> None:
    with pytest.raises(ValueError, match="inside"), scratch("test") as folder:
        (folder / "file").write_text("something", encoding="utf-8")
        raise ValueError("inside")
    assert not folder.exists()


def test_where_temporary_files_are_wanted_elsewhere_memory_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = scratch_folder("test", in_memory=True)
    assert folder.parent == tmp_path
    discard(folder)


def test_a_small_memory_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", scratch_module.ORDINARY)
    monkeypatch.setattr(scratch_module, "ROOM_BYTES", 2**62)
    with scratch("test", in_memory=True) as folder:
        assert folder.parent == Path(scratch_module.ORDINARY)


@needs_mosquitto
def test_a_closed_broker_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Broker():
        assert len(_leftovers(tmp_path)) == 1
    assert not _leftovers(tmp_path)


@needs_mosquitto
def test_a_broker_that_was_never_closed_leaves_no_folder_when_its_process_ends(tmp_path: Path) -> None:
    with _python("from hil.broker import Broker; Broker().start()", tmp_path) as left:
        left.communicate(timeout=30.0)
    assert left.returncode == 0
    assert not _leftovers(tmp_path)


@needs_mosquitto
@pytest.mark.parametrize(
    ("mode", "number"),
    [
        ("lockstep", signal.SIGTERM),
        pytest.param("lockstep", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("sim", signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_ended_midway_leaves_no_folder(tmp_path: Path, mode: str, number: signal.Signals) -> None:
    out = tmp_path / "out"
    command = ["run", "street", "--hours", "0.8", "--mode", mode, "--out", str(out)]
    with _python(f"import sys; from hil.cli import main; sys.exit(main({command!r}))", tmp_path) as run:
        assert run.stderr is not None
        first = next(line for line in run.stderr if "%" in line)
        assert _leftovers(tmp_path), first
        run.send_signal(number)
        run.communicate(timeout=60.0)
    assert run.returncode == (130 if number is signal.SIGINT else 128 + number)
    assert not _leftovers(tmp_path)


@pytest.mark.parametrize("swallows", [False, True])
def test_work_that_is_ended_says_so_also_where_it_takes_the_end_for_another(tmp_path: Path, swallows: bool) -> None:
    code = f"""
import asyncio, os, signal
from hil.scratch import ended_in_order, leaving_in_order, scratch

async def work():
    with scratch("test"):
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            await asyncio.sleep(30.0)
        except asyncio.CancelledError:
            if not {swallows}:
                raise

with leaving_in_order():
    asyncio.run(ended_in_order(work()))
"""
    with _python(code, tmp_path) as ended:
        ended.communicate(timeout=30.0)
    assert ended.returncode == 128 + signal.SIGTERM
    assert not _leftovers(tmp_path)


def _python(code: str, temporary: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "TMPDIR": str(temporary)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("commonwatt-"))
