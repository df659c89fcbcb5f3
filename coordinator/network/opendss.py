"""Networks from OpenDSS scripts: the script is filtered, compiled by OpenDSS in an isolated context, and its elements are read back.

Needs the extra `coordinator-import`. Pitfalls that this reader is built around: the base frequency must be set before the circuit is made
(afterwards every voltage is zero and OpenDSS reports convergence); `kVBase` of a bus is a guess out of `Set VoltageBases` and may be that
of another feeder, so a guess that does not fit the transformers, or rests on OpenDSS's own list, is replaced by their rating.
Loads of models other than constant power, controls, delta loads and explicit neutrals are refused, since leaving them out would
change the answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from coordinator.errors import NetworkError
from coordinator.network.csv_folder import LV_MAX_V, LV_MIN_V, LV_THRESHOLD_LN_V
from coordinator.network.findings import Finding
from coordinator.network.model import (
    THREE_PHASES,
    Bus,
    Connection,
    Line,
    Matrix,
    Network,
    NetworkKind,
    Shunt,
    Source,
    Transformer,
)
from coordinator.network.opendss_script import read_script
from coordinator.network.opendss_session import new_session
from coordinator.network.phasing import LocalBranch, relabel, system_phases
from coordinator.network.topology import DisjointSets

CONSTANT_POWER = 1
MAX_BASE_MISMATCH_FRAC = 0.15
Labels = dict[str, dict[int, int]]


def load_opendss(path: Path) -> Network:
    """Compile and read a script. Raises NetworkError with every refused command or unsupported element."""
    script = read_script(path)
    session = new_session()
    session.Text.Command("Clear")
    session.Text.Command(f"Set DefaultBaseFrequency={script.frequency_hz!r}")
    try:
        for command in script.commands:
            session.Text.Command(command)
        session.Text.Command("Set ControlMode=off Mode=snap")
        session.Text.Command("CalcVoltageBases")
        session.Solution.Solve()
    except Exception as error:
        if type(error).__name__ != "DSSException":
            raise
        raise NetworkError(f"{path}: OpenDSS refused it: {' '.join(str(error).split())[:300]}") from error
    reader = _CircuitReader(session, path, script.has_voltage_bases)
    network = reader.read()
    if reader.findings:
        raise NetworkError(f"{path} cannot be read", reader.findings)
    return network


class _CircuitReader:
    """Reads one compiled circuit."""

    def __init__(self, session: Any, path: Path, has_voltage_bases: bool) -> None:
        self._has_voltage_bases = has_voltage_bases
        self._dss = session
        self._path = path
        self.findings: list[Finding] = []

    def read(self) -> Network:
        sources = [self._source() for _ in _each(self._dss.Vsources)]
        transformers = [item for _ in _each(self._dss.Transformers) if (item := self._transformer()) is not None]
        ends = [self._line_ends() for _ in _each(self._dss.Lines)]
        links = [
            LocalBranch(id=t.id, from_bus=t.from_bus, to_bus=t.to_bus, from_phases=THREE_PHASES, to_phases=THREE_PHASES)
            for t in transformers
        ]
        labels, wrong = system_phases([*links, *ends], [source.bus for source, _ in sources])
        for branch in wrong:
            self._refuse(f"line {branch.id}", "phase-conflict", "connects different phases than another path to the bus does")
        lines = [self._line(branch, labels) for _, branch in zip(_each(self._dss.Lines), ends, strict=True)]
        connections = [load for _ in _each(self._dss.Loads) if (load := self._load(labels)) is not None]
        connections += [unit for _ in _each(self._dss.Generators) if (unit := self._generator(labels)) is not None]
        shunts = [bank for _ in _each(self._dss.Capacitors) if (bank := self._capacitor(labels)) is not None]
        buses = self._buses(lines, transformers, sources, labels)
        base_v = max((bus.nominal_ln_v for bus in buses if bus.nominal_ln_v < LV_THRESHOLD_LN_V), default=None)
        return Network(
            name=self._path.stem,
            kind=NetworkKind.UNBALANCED,
            frequency_hz=float(self._dss.Solution.Frequency()),
            buses=tuple(buses),
            sources=tuple(source for source, _ in sources),
            lines=tuple(lines),
            transformers=tuple(transformers),
            connections=tuple(connections),
            shunts=tuple(shunts),
            vmin_pu=0.95 if base_v is None else LV_MIN_V / base_v,
            vmax_pu=1.05 if base_v is None else LV_MAX_V / base_v,
        )

    def _source(self) -> tuple[Source, float]:
        vsource = self._dss.Vsources
        name = vsource.Name()
        bus, _ = self._element_ends()[0]
        ohms = {key: self._property(f"Vsource.{name}.{key}") for key in ("R1", "X1", "R0", "X0")}
        source = Source(
            bus=bus,
            voltage_pu=float(vsource.PU()),
            angle_rad=math.radians(float(vsource.AngleDeg())),
            r1_ohm=ohms["R1"],
            x1_ohm=ohms["X1"],
            r0_ohm=ohms["R0"],
            x0_ohm=ohms["X0"],
        )
        return source, float(vsource.BasekV()) * 1e3 / math.sqrt(3.0)

    def _transformer(self) -> Transformer | None:
        table = self._dss.Transformers
        name = str(table.Name())
        where = f"transformer {name}"
        if int(table.NumWindings()) != 2 or int(self._dss.CktElement.NumPhases()) != 3:
            self._refuse(where, "unsupported-transformer", "expected two windings and three phases")
            return None
        (first, _), (second, _) = self._element_ends()
        windings = []
        for number, bus in ((1, first), (2, second)):
            table.Wdg(number)
            windings.append(
                (float(table.kV()) * 1e3, float(table.kVA()) * 1e3, float(table.R()), float(table.Tap()), bool(table.IsDelta()), bus)
            )
        high, low = sorted(windings, key=lambda winding: -winding[0])
        group = {(True, False): "Dyn", (False, False): "YNyn0"}.get((high[4], low[4]))
        if group is None:
            self._refuse(where, "unsupported-transformer", "expected delta or star at high voltage and star at low voltage")
            return None
        leads = str(self._text(f"Transformer.{name}.leadlag")).lower() in ("lead", "euro")
        rated_va = high[1]
        return Transformer(
            id=name,
            from_bus=high[5],
            to_bus=low[5],
            rated_va=rated_va,
            from_ll_v=high[0],
            to_ll_v=low[0],
            r_frac=(high[2] + low[2]) / 100.0,
            x_frac=float(table.Xhl()) / 100.0,
            vector_group=(group + ("11" if leads else "1")) if group == "Dyn" else group,
            no_load_w=self._property(f"Transformer.{name}.%noloadloss") / 100.0 * rated_va,
            magnetising_frac=self._property(f"Transformer.{name}.%imag") / 100.0,
            from_tap_frac=high[3],
            to_tap_frac=low[3],
            in_service=bool(self._dss.CktElement.Enabled()),
        )

    def _line_ends(self) -> LocalBranch:
        name = str(self._dss.Lines.Name())
        (from_bus, from_nodes), (to_bus, to_nodes) = self._element_ends()
        if not set(from_nodes) | set(to_nodes) <= set(THREE_PHASES) or len(from_nodes) != len(to_nodes):
            self._refuse(f"line {name}", "bad-phases", f"expected nodes out of 1, 2, 3 at both ends, got {from_nodes} and {to_nodes}")
            from_nodes, to_nodes = THREE_PHASES, THREE_PHASES
        return LocalBranch(id=name, from_bus=from_bus, to_bus=to_bus, from_phases=from_nodes, to_phases=to_nodes)

    def _line(self, ends: LocalBranch, labels: Labels) -> Line:
        lines = self._dss.Lines
        length = float(lines.Length())
        map_from = labels.get(ends.from_bus, {})
        order = sorted(range(len(ends.from_phases)), key=lambda k: map_from.get(ends.from_phases[k], ends.from_phases[k]))
        c_nf = np.asarray(lines.CMatrix()).reshape(len(order), len(order)) * length
        return Line(
            id=ends.id,
            from_bus=ends.from_bus,
            to_bus=ends.to_bus,
            phases=relabel(ends.from_phases, map_from),
            r_ohm=_ordered(lines.RMatrix(), length, order),
            x_ohm=_ordered(lines.XMatrix(), length, order),
            c_f=_ordered(c_nf, 1e-9, order) if np.any(c_nf) else (),
            ampacity_a=float(lines.NormAmps()),
            in_service=bool(self._dss.CktElement.Enabled()) and not self._is_open(),
            is_switchable=bool(lines.IsSwitch()),
        )

    def _is_open(self) -> bool:
        element = self._dss.CktElement
        return any(element.IsOpen(terminal, 0) for terminal in (1, 2))

    def _load(self, labels: Labels) -> Connection | None:
        loads = self._dss.Loads
        name = str(loads.Name())
        if int(loads.Model()) != CONSTANT_POWER:
            self._refuse(f"load {name}", "unsupported-load", f"expected model=1 (constant power), got model={int(loads.Model())}")
        return self._connection(f"load {name}", name, float(loads.kW()) * 1e3, float(loads.kvar()) * 1e3, bool(loads.IsDelta()), labels)

    def _generator(self, labels: Labels) -> Connection | None:
        table = self._dss.Generators
        name = str(table.Name())
        delta = str(self._text(f"Generator.{name}.conn")).lower().startswith(("d", "ll"))
        return self._connection(f"generator {name}", f"gen_{name}", -float(table.kW()) * 1e3, -float(table.kvar()) * 1e3, delta, labels)

    def _connection(self, where: str, name: str, p_w: float, q_var: float, delta: bool, labels: Labels) -> Connection | None:
        if not self._dss.CktElement.Enabled():
            return None
        bus, nodes = self._element_ends()[0]
        phases = nodes[: int(self._dss.CktElement.NumPhases())]
        if delta or not phases or not set(phases) <= set(THREE_PHASES):
            self._refuse(
                where, "unknown-connection", f"expected phase to neutral on nodes out of 1, 2, 3, got {'delta' if delta else phases}"
            )
            return None
        return Connection(id=name, bus=bus, phases=relabel(phases, labels.get(bus)), p_w=p_w, q_var=q_var)

    def _capacitor(self, labels: Labels) -> Shunt | None:
        table = self._dss.Capacitors
        name = str(table.Name())
        bus, nodes = self._element_ends()[0]
        count = int(self._dss.CktElement.NumPhases())
        phases = nodes[:count]
        if bool(table.IsDelta()) or not set(phases) <= set(THREE_PHASES):
            self._refuse(f"capacitor {name}", "unknown-connection", "expected a star capacitor to ground")
            return None
        ln_v = float(table.kV()) * 1e3 / (math.sqrt(3.0) if count > 1 else 1.0)
        b_siemens = float(table.kvar()) * 1e3 / count / ln_v**2
        return Shunt(id=name, bus=bus, phases=relabel(phases, labels.get(bus)), b_siemens=b_siemens)

    def _buses(self, lines: list[Line], transformers: list[Transformer], sources: list[tuple[Source, float]], labels: Labels) -> list[Bus]:
        islands: DisjointSets[str] = DisjointSets()
        for line in lines:
            islands.join(line.from_bus, line.to_bus)
        rated: dict[str, float] = {}
        for item in transformers:
            rated.setdefault(islands.find(item.to_bus), item.to_ll_v / math.sqrt(3.0))
            rated.setdefault(islands.find(item.from_bus), item.from_ll_v / math.sqrt(3.0))
        stated = {source.bus: ln_v for source, ln_v in sources}
        rated.update({islands.find(bus): ln_v for bus, ln_v in stated.items()})
        buses = []
        for name in self._dss.Circuit.AllBusNames():
            self._dss.Circuit.SetActiveBus(name)
            guess_v = float(self._dss.Bus.kVBase()) * 1e3
            expected_v = rated.get(islands.find(name), guess_v)
            fits = self._has_voltage_bases and abs(guess_v - expected_v) <= MAX_BASE_MISMATCH_FRAC * expected_v
            nodes = tuple(int(node) for node in self._dss.Bus.Nodes() if int(node) in THREE_PHASES)
            nominal_v = stated.get(name, guess_v if fits else expected_v)
            buses.append(Bus(id=name, nominal_ln_v=nominal_v, phases=relabel(nodes, labels.get(name))))
        return buses

    def _element_ends(self) -> list[tuple[str, tuple[int, ...]]]:
        """Bus and nodes of each terminal of the active element; nodes are 1, 2, ... where the file leaves them out."""
        count = int(self._dss.CktElement.NumPhases())
        ends = []
        for text in self._dss.CktElement.BusNames():
            bus, *nodes = str(text).lower().split(".")
            named = tuple(int(node) for node in nodes if node not in ("0", ""))
            ends.append((bus, named or tuple(range(1, count + 1))))
        return ends

    def _property(self, name: str) -> float:
        return float(self._text(name))

    def _text(self, name: str) -> str:
        self._dss.Text.Command(f"? {name}")
        return str(self._dss.Text.Result())

    def _refuse(self, where: str, code: str, message: str) -> None:
        self.findings.append(Finding(where=f"{self._path.name} {where}", code=code, message=message))


def _each(table: Any) -> Iterator[int]:
    """Walk an OpenDSS collection, making each element the active one in turn."""
    step: Callable[[], int] = table.First
    position = 0
    while step() > 0:
        yield position
        position += 1
        step = table.Next


def _ordered(values: Any, scale: float, order: list[int]) -> Matrix:
    size = len(order)
    matrix = np.asarray(values, dtype=np.float64).reshape(size, size)[np.ix_(order, order)] * scale
    return tuple(tuple(float(cell) for cell in row) for row in matrix)
