"""`load(path_or_name)`: one door for every kind of network, and the two published feeders that come with the package.

Sources of the published tables, which state each load at the receiving bus of its branch:

* `ieee33`: 33-bus feeder, 12.66 kV, with five tie lines. M. E. Baran and F. F. Wu, Network reconfiguration in distribution systems for loss
  reduction and load balancing, IEEE Transactions on Power Delivery 4 (2), 1989, table in the appendix.
* `ieee69`: 69-bus feeder, 12.66 kV. M. E. Baran and F. F. Wu, Optimal capacitor placement on radial distribution systems,
  IEEE Transactions on Power Delivery 4 (1), 1989; with the tie lines 11-43, 13-21, 15-46, 50-59 and 27-65 of the reconfiguration
  literature (J. S. Savier and D. Das, IEEE Transactions on Power Delivery 22 (4), 2007).

Neither source states ampacities; the voltage limits 0.90 and 1.10 per unit are those of the MATPOWER versions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path

import msgspec

from coordinator.errors import NetworkError
from coordinator.network.csv_folder import PUBLISHED_VMAX_PU, PUBLISHED_VMIN_PU, load_csv_folder
from coordinator.network.findings import Finding
from coordinator.network.matpower import load_matpower
from coordinator.network.model import Bus, Connection, Line, Network, NetworkKind, Source
from coordinator.network.opendss import load_opendss
from coordinator.network.pandapower import load_pandapower
from coordinator.network.tables import Row, TableFolder
from coordinator.network.validate import validate

CASES = ("ieee33", "ieee69")
CASE_LL_V = 12660.0
CASE_COLUMNS = ("branch", "from_bus", "to_bus", "r_ohm", "x_ohm", "p_kw", "q_kvar", "is_tie")

LOADERS: dict[str, Callable[[Path], Network]] = {
    ".m": load_matpower,
    ".dss": load_opendss,
    ".json": load_pandapower,
}


def load(path_or_name: str | Path, *, vmin_pu: float | None = None, vmax_pu: float | None = None) -> Network:
    """Read a built-in case by name, a CSV folder, a MATPOWER `.m`, an OpenDSS `.dss` or a pandapower `.json` file.

    The given voltage limits replace those of the file. The result is read, not yet validated: see `validate`. Raises NetworkError.
    """
    network = _read(path_or_name)
    return msgspec.structs.replace(
        network,
        vmin_pu=network.vmin_pu if vmin_pu is None else vmin_pu,
        vmax_pu=network.vmax_pu if vmax_pu is None else vmax_pu,
    )


def check(path_or_name: str | Path, *, require_radial: bool = False) -> list[Finding]:
    """Return everything that is wrong with a network file, whether it cannot be read or is not valid."""
    try:
        network = load(path_or_name)
    except NetworkError as error:
        return list(error.findings) or [Finding(where=str(path_or_name), code="unreadable", message=str(error))]
    return validate(network, require_radial=require_radial)


def _read(path_or_name: str | Path) -> Network:
    if str(path_or_name) in CASES:
        return load_case(str(path_or_name))
    path = Path(path_or_name)
    if path.is_dir():
        return load_csv_folder(path)
    if not path.exists():
        raise NetworkError(f"network {str(path)!r}: no such file or folder, and the built-in cases are {', '.join(CASES)}")
    loader = LOADERS.get(path.suffix.lower())
    if loader is None:
        raise NetworkError(f"network {path}: expected a folder of CSV tables or a file ending in {', '.join(LOADERS)}")
    return loader(path)


def load_case(name: str) -> Network:
    """Return one of the built-in published feeders."""
    with as_file(files("coordinator.network") / "cases") as folder:
        tables = TableFolder(folder)
        rows = list(tables.rows(f"{name}.csv", CASE_COLUMNS))
        lines = tuple(_line(row) for row in rows)
        connections = tuple(connection for row in rows if (connection := _load(row)) is not None)
        tables.raise_if_bad(f"built-in case {name} cannot be read")
    buses = dict.fromkeys(bus for line in lines for bus in (line.from_bus, line.to_bus))
    return Network(
        name=name,
        kind=NetworkKind.BALANCED,
        frequency_hz=50.0,
        buses=tuple(Bus(id=bus, nominal_ln_v=CASE_LL_V / math.sqrt(3.0)) for bus in sorted(buses, key=int)),
        sources=(Source(bus="1"),),
        lines=lines,
        connections=connections,
        vmin_pu=PUBLISHED_VMIN_PU,
        vmax_pu=PUBLISHED_VMAX_PU,
    )


def _line(row: Row) -> Line:
    return Line(
        id=row.text("branch"),
        from_bus=row.text("from_bus"),
        to_bus=row.text("to_bus"),
        r_ohm=((row.number("r_ohm"),),),
        x_ohm=((row.number("x_ohm"),),),
        in_service=not row.flag("is_tie"),
        is_switchable=True,
    )


def _load(row: Row) -> Connection | None:
    p_w, q_var = row.number("p_kw") * 1e3, row.number("q_kvar") * 1e3
    if p_w == 0.0 and q_var == 0.0:
        return None
    bus = row.text("to_bus")
    return Connection(id=f"load{bus}", bus=bus, p_w=p_w, q_var=q_var)
