"""Builds the Debian package of the edge or of the coordinator: `make deb`, or `python deploy/build_deb.py edge`.

A package holds our own code and every Python package that it needs, as wheels from the index, below /usr/lib/commonwatt-ROLE; it takes
nothing from the system but its Python, so that neither changes under the other. The wheels are chosen for the Debian release and the
machine that are named, not for those that build: any machine builds for any.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HERE = Path(__file__).resolve().parent

PYTHON_OF = {"bookworm": "3.11", "trixie": "3.13"}
MACHINE_OF = {"amd64": "x86_64", "arm64": "aarch64"}
GLIBC_MINORS = range(17, 37)
"""Wheels for glibc 2.17 up to 2.36, which is bookworm's."""

PACKAGES = {"edge": ("protocols", "edge"), "coordinator": ("protocols", "coordinator")}
OURS = ("protocols", "edge", "coordinator", "hil")
SUMMARY = {
    "edge": "controller that keeps a household inside its operating envelope",
    "coordinator": "operating envelopes and community for the homes of one feeder",
}
DEPENDS = {"edge": "", "coordinator": ", mosquitto (>= 2.0)"}
UNITS = {
    "edge": ("commonwatt-edge.service",),
    "coordinator": ("commonwatt-coordinator.service", "commonwatt-broker@.service", "commonwatt-page.service"),
}
DOCS = {"edge": "deploy-an-edge.md", "coordinator": "run-a-coordinator.md"}
UNUSED = {"edge": ("scipy", "scipy.libs"), "coordinator": ()}
"""PIQP names scipy as what it needs; the edge hands it matrices without (`edge.schedule.sparse`), and 96 MB stay away from the card."""

BULK = ("tests", "__pycache__")


def main(argv: list[str] | None = None) -> int:
    """Build one package and print where it is."""
    parser = argparse.ArgumentParser(description="Build a Debian package.")
    parser.add_argument("role", choices=sorted(PACKAGES))
    parser.add_argument("--release", choices=sorted(PYTHON_OF), default="bookworm", help="Debian release (default bookworm)")
    parser.add_argument("--arch", choices=sorted(MACHINE_OF), default="amd64", help="machine (default amd64)")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder of the package (default dist)")
    options = parser.parse_args(argv)
    if shutil.which("dpkg-deb") is None:
        sys.stderr.write("dpkg-deb is missing; on Debian: apt-get install dpkg\n")
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="commonwatt-deb-") as folder:
        package = build(options.role, options.release, options.arch, Path(folder), options.out)
    sys.stdout.write(f"{package}\n")
    return 0


def build(role: str, release: str, arch: str, folder: Path, out: Path) -> Path:
    """Lay the package out in `folder` and pack it into `out`."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    python = PYTHON_OF[release]
    name, tree = f"commonwatt-{role}", folder / "tree"
    library = tree / "usr/lib" / name
    library.mkdir(parents=True)
    _install(role, python, MACHINE_OF[arch], folder, library)
    for unit in UNITS[role]:
        _place(HERE / "systemd" / unit, tree / "usr/lib/systemd/system" / unit, 0o644)
    _write(tree / "usr/bin" / name, _launcher(role), 0o755)
    documents = tree / "usr/share/doc" / name
    _place(ROOT / "LICENSE", documents / "copyright", 0o644)
    if (ROOT / "docs" / DOCS[role]).is_file():
        _place(ROOT / "docs" / DOCS[role], documents / DOCS[role], 0o644)
    _control(role, name, version, release, python, arch, tree)
    package = out / f"{name}_{version}~{release}_{arch}.deb"
    _run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-z3", "--build", str(tree), str(package)])
    return package


def _install(role: str, python: str, machine: str, folder: Path, library: Path) -> None:
    """Our wheel and what it needs, without the parts that this role does not use."""
    wheels = folder / "wheel"
    _run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(wheels), str(ROOT)])
    (wheel,) = wheels.glob("commonwatt-*.whl")
    platforms = [f"--platform=manylinux_2_{minor}_{machine}" for minor in GLIBC_MINORS] + [f"--platform=manylinux2014_{machine}"]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--target", str(library)]
    command += ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}", *platforms]
    _run([*command, f"commonwatt[{role}] @ {wheel.as_uri()}"])
    for other in (*(set(OURS) - set(PACKAGES[role])), *UNUSED[role], "bin"):
        shutil.rmtree(library / other, ignore_errors=True)
    for name in UNUSED[role]:
        for path in library.glob(f"{name}-*.dist-info"):
            shutil.rmtree(path)
    for bulk in BULK:
        for path in sorted(library.rglob(bulk), reverse=True):
            shutil.rmtree(path, ignore_errors=True)


def _launcher(role: str) -> str:
    return (
        "#!/usr/bin/python3 -I\n"
        "import os\nimport sys\n\n"
        'os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")\n'
        f'sys.path.insert(0, "/usr/lib/commonwatt-{role}")\n\n'
        f"from {role}.cli import main\n\n"
        "sys.exit(main())\n"
    )


def _control(role: str, name: str, version: str, release: str, python: str, arch: str, tree: Path) -> None:
    following = f"{python.partition('.')[0]}.{int(python.partition('.')[2]) + 1}"
    files = [path for path in sorted(tree.rglob("*")) if path.is_file()]
    size_kb = sum(path.stat().st_size for path in files) // 1024
    fields = {
        "Package": name,
        "Version": f"{version}~{release}",
        "Architecture": arch,
        "Maintainer": "Commonwatt maintainers <maintainers@commonwatt.invalid>",
        "Installed-Size": str(size_kb),
        "Depends": f"python3 (>= {python}~), python3 (<< {following}~), adduser, tzdata, ca-certificates{DEPENDS[role]}",
        "Recommends": "systemd-timesyncd | time-daemon",
        "Section": "utils",
        "Priority": "optional",
        "Description": f"{SUMMARY[role]}\n Part of Commonwatt; see /usr/share/doc/{name}.",
    }
    control = tree / "DEBIAN"
    _write(control / "control", "".join(f"{key}: {value}\n" for key, value in fields.items()), 0o644)
    sums = "".join(f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  {path.relative_to(tree)}\n" for path in files)
    _write(control / "md5sums", sums, 0o644)
    for script in ("postinst", "prerm", "postrm"):
        text = (HERE / "debian" / script).read_text(encoding="utf-8").replace("@ROLE@", role)
        _write(control / script, text, 0o755)


def _place(source: Path, target: Path, mode: int) -> None:
    _write(target, source.read_text(encoding="utf-8"), mode)


def _write(target: Path, text: str, mode: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    target.chmod(mode)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command[:4])} ...: {done.stderr.strip()[-2000:]}")


if __name__ == "__main__":
    sys.exit(main())
