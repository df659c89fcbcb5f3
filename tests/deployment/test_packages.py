"""What is packaged: everything that a role imports is among what its package installs, and the scripts around it can be run."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
OURS = {"protocols", "edge", "coordinator", "hil"}
IMPORTED_AS = {"paho-mqtt": "paho", "power-grid-model": "power_grid_model", "prometheus-client": "prometheus_client", "pyserial": "serial"}
OPTIONAL = {
    "edge/schedule/specification.py": "what tests compare the schedule with",
    "edge/schedule/osqp_backend.py": "extra edge-osqp",
}


def imported(package: str) -> Iterator[tuple[str, str]]:
    """(file, package from elsewhere) for each import that is made when a module is loaded."""
    for path in sorted((ROOT / package).rglob("*.py")):
        name = str(path.relative_to(ROOT))
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) and node.module is not None else []
            for module in modules:
                top = module.partition(".")[0]
                if top not in sys.stdlib_module_names and top not in OURS and name not in OPTIONAL:
                    yield name, top


def installed(role: str) -> set[str]:
    """The import names of the base dependencies and of one extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = [re.split(r"[<>=\[;~! ]", entry)[0] for entry in (*project["dependencies"], *project["optional-dependencies"][role])]
    return {IMPORTED_AS.get(name, name) for name in names}


@pytest.mark.parametrize("role", ["edge", "coordinator"])
def test_a_role_installs_everything_that_it_imports(role: str) -> None:
    have = installed(role)
    assert [entry for package in ("protocols", role) for entry in imported(package) if entry[1] not in have] == []


@pytest.mark.parametrize("script", ["postinst", "prerm", "postrm"])
def test_a_maintainer_script_is_sound_and_knows_its_role(script: str) -> None:
    text = (DEPLOY / "debian" / script).read_text(encoding="utf-8")
    assert "name=commonwatt-@ROLE@" in text
    done = subprocess.run(["sh", "-n"], input=text.replace("@ROLE@", "edge"), text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    if script != "postrm":
        assert "/var/lib" not in text or "install -d" in text, "only purge removes what belongs to the household"


def test_the_image_is_made_of_the_package() -> None:
    text = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
    assert "deploy/build_deb.py" in text
    for role in ("edge", "coordinator"):
        _, _, stage = text.partition(f" AS {role}\n")
        assert f"USER commonwatt-{role}\n" in stage.partition("\nFROM")[0], "nobody in particular runs it"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")
@pytest.mark.parametrize("role", ["edge", "coordinator"])
def test_a_package_is_built_by_one_command_and_runs_by_itself(role: str, tmp_path: Path) -> None:
    """With a Python that has nothing of ours; `-I` keeps it from looking anywhere but into the package."""
    command = [sys.executable, str(DEPLOY / "build_deb.py"), role, "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    tree = tmp_path / "tree"
    subprocess.run(["dpkg-deb", "-x", done.stdout.strip(), str(tree)], check=True)
    library = tree / "usr/lib" / f"commonwatt-{role}"
    others = OURS - {"protocols", role}
    assert [name for name in others if (library / name).exists()] == []
    program = f"import sys; sys.path.insert(0, {str(library)!r}); from {role}.cli import main; main(['--help'])"
    shown = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False)
    assert shown.returncode == 0 and "usage: commonwatt" in shown.stdout, shown.stderr
    modules = {"edge": "edge.runner, edge.upkeep.doctor, edge.commissioning.command", "coordinator": "coordinator.commands"}[role]
    program = f"import sys; sys.path.insert(0, {str(library)!r}); import {modules}"
    loaded = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False)
    assert loaded.returncode == 0, loaded.stderr
