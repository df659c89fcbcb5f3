"""Everything that is wrong with a network, at once: `validate(network) == []` means that it can be used.

What the checks assume: every in-service line and transformer joins all its phases; a feeder has one source; published impedances
are passive (no negative resistance, no branch without any impedance). Loops are errors only where the caller needs a radial feeder.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from coordinator.errors import NetworkError
from coordinator.network.findings import Finding
from coordinator.network.model import THREE_PHASES, Bus, Connection, Line, Matrix, Network, Shunt, Source, Transformer
from coordinator.network.topology import fed_nodes, loop_branches

MAX_VOLTAGE_MISMATCH_FRAC = 0.15
"""How far a transformer's rated voltage, or the other end of a line, may be from a bus's nominal voltage."""

VECTOR_GROUPS = frozenset({f"Dyn{clock}" for clock in (1, 5, 7, 11)} | {f"YNyn{clock}" for clock in (0, 6)})
MAX_NAMED = 5

Element = Bus | Line | Transformer | Source | Connection | Shunt


def validate(network: Network, *, require_radial: bool = False) -> list[Finding]:
    """Return every error of the network, in the order of its elements; empty means valid."""
    findings = [*_network(network), *_duplicates(network)]
    buses = {bus.id: bus for bus in network.buses}
    for bus in network.buses:
        findings += _finite(bus, f"bus {bus.id}")
        findings += _phases(bus.phases, network, f"bus {bus.id}")
        findings += _positive(bus.nominal_ln_v, "nominal_ln_v", f"bus {bus.id}")
    for source in network.sources:
        findings += _source(source, buses, network)
    for line in network.lines:
        findings += _line(line, buses, network)
    for transformer in network.transformers:
        findings += _transformer(transformer, buses)
    for connection in network.connections:
        findings += _appliance(connection, "connection", buses, network)
        if not 0.0 < connection.power_factor <= 1.0:
            findings += _one(f"connection {connection.id}", "bad-power-factor", f"power_factor {connection.power_factor} must be in (0, 1]")
    for shunt in network.shunts:
        findings += _appliance(shunt, "shunt", buses, network)
    findings += _fed(network, buses)
    if require_radial:
        findings += [
            Finding(where=f"{kind} {branch}", code="looped", message="closes a loop, expected a radial network")
            for kind, branch in loop_branches(network)
        ]
    return findings


def require_valid(network: Network, *, require_radial: bool = False) -> Network:
    """Return the network, or raise a NetworkError that holds every finding."""
    findings = validate(network, require_radial=require_radial)
    if findings:
        raise NetworkError(f"network {network.name} is not valid", findings)
    return network


def _network(network: Network) -> Iterator[Finding]:
    where = f"network {network.name}"
    if not network.buses:
        yield Finding(where=where, code="empty", message="has no bus")
    if not network.sources:
        yield Finding(where=where, code="no-source", message="has no source, expected exactly one")
    if len(network.sources) > 1:
        names = ", ".join(source.bus for source in network.sources[:MAX_NAMED])
        yield Finding(where=where, code="several-sources", message=f"has {len(network.sources)} sources ({names}), expected one")
    if not 0.0 < network.vmin_pu < network.vmax_pu < 2.0:
        limits = f"vmin_pu {network.vmin_pu}, vmax_pu {network.vmax_pu}"
        yield Finding(where=where, code="bad-limits", message=f"expected 0 < vmin_pu < vmax_pu < 2, got {limits}")
    if not 1.0 <= network.frequency_hz <= 1000.0:
        yield Finding(where=where, code="bad-frequency", message=f"frequency_hz {network.frequency_hz} must be in 1..1000")


def _duplicates(network: Network) -> Iterator[Finding]:
    groups: tuple[tuple[str, Sequence[Bus | Line | Transformer | Connection | Shunt]], ...] = (
        ("bus", network.buses),
        ("line", network.lines),
        ("transformer", network.transformers),
        ("connection", network.connections),
        ("shunt", network.shunts),
    )
    for kind, elements in groups:
        for name, count in Counter(element.id for element in elements).items():
            if count > 1:
                yield Finding(where=f"{kind} {name}", code="duplicate-id", message=f"is listed {count} times")


def _source(source: Source, buses: dict[str, Bus], network: Network) -> Iterator[Finding]:
    where = f"source at {source.bus}"
    yield from _finite(source, where)
    if source.bus not in buses:
        yield Finding(where=where, code="unknown-bus", message=f"bus {source.bus!r} does not exist")
    elif buses[source.bus].phases != THREE_PHASES:
        yield Finding(where=where, code="missing-phase", message=f"bus {source.bus} must have phases 1, 2 and 3")
    if not 0.5 <= source.voltage_pu <= 1.5:
        yield Finding(where=where, code="bad-source-voltage", message=f"voltage_pu {source.voltage_pu} must be in 0.5..1.5")
    ideal = source.r1_ohm == 0.0 and source.x1_ohm == 0.0
    if not network.is_balanced and ideal != (source.r0_ohm == 0.0 and source.x0_ohm == 0.0):
        yield Finding(where=where, code="zero-impedance", message="expected both z1 and z0, or neither for an infinite bus")
    for name in ("r1_ohm", "x1_ohm", "r0_ohm", "x0_ohm"):
        if getattr(source, name) < 0.0:
            yield Finding(where=where, code="negative-impedance", message=f"{name} {getattr(source, name)} must not be negative")


def _line(line: Line, buses: dict[str, Bus], network: Network) -> Iterator[Finding]:
    where = f"line {line.id}"
    yield from _finite(line, where)
    yield from _phases(line.phases, network, where)
    yield from _ends(where, line.from_bus, line.to_bus, line.phases, buses)
    size = 1 if network.is_balanced else len(line.phases)
    for name, matrix in (("r_ohm", line.r_ohm), ("x_ohm", line.x_ohm), ("c_f", line.c_f)):
        if matrix or name != "c_f":
            yield from _matrix(matrix, size, name, where)
    yield from _passive(line, size, where)
    if line.ampacity_a is not None:
        yield from _positive(line.ampacity_a, "ampacity_a", where)
    if line.from_bus in buses and line.to_bus in buses:
        near_v, far_v = buses[line.from_bus].nominal_ln_v, buses[line.to_bus].nominal_ln_v
        if not _close(near_v, far_v):
            yield Finding(where=where, code="voltage-mismatch", message=f"joins buses of {near_v:g} V and {far_v:g} V (phase to neutral)")


def _passive(line: Line, size: int, where: str) -> Iterator[Finding]:
    if _shape(line.r_ohm) != (size, size) or _shape(line.x_ohm) != (size, size):
        return
    for index in range(size):
        r_ohm, x_ohm = line.r_ohm[index][index], line.x_ohm[index][index]
        if r_ohm < 0.0:
            yield Finding(where=where, code="negative-impedance", message=f"resistance {r_ohm:g} ohm must not be negative")
        if r_ohm == 0.0 and x_ohm == 0.0:
            yield Finding(where=where, code="zero-impedance", message="has neither resistance nor reactance; merge its buses")
        if x_ohm < 0.0:
            yield Finding(where=where, code="negative-impedance", message=f"reactance {x_ohm:g} ohm must not be negative")


def _transformer(transformer: Transformer, buses: dict[str, Bus]) -> Iterator[Finding]:
    where = f"transformer {transformer.id}"
    yield from _finite(transformer, where)
    yield from _ends(where, transformer.from_bus, transformer.to_bus, THREE_PHASES, buses)
    for name in ("rated_va", "from_ll_v", "to_ll_v", "from_tap_frac", "to_tap_frac"):
        yield from _positive(getattr(transformer, name), name, where)
    for name in ("r_frac", "no_load_w", "magnetising_frac"):
        if getattr(transformer, name) < 0.0:
            yield Finding(where=where, code="negative-impedance", message=f"{name} {getattr(transformer, name)} must not be negative")
    if not 0.0 < transformer.x_frac < 1.0:
        yield Finding(where=where, code="zero-impedance", message=f"x_frac {transformer.x_frac} must be in (0, 1)")
    if not 0.5 <= transformer.from_tap_frac <= 1.5 or not 0.5 <= transformer.to_tap_frac <= 1.5:
        taps = f"{transformer.from_tap_frac}, {transformer.to_tap_frac}"
        yield Finding(where=where, code="bad-tap", message=f"tap factors must be in 0.5..1.5, got {taps}")
    if transformer.vector_group not in VECTOR_GROUPS:
        known = ", ".join(sorted(VECTOR_GROUPS))
        yield Finding(where=where, code="unknown-vector-group", message=f"expected one of {known}, got {transformer.vector_group!r}")
    for side, bus, rated_ll_v in (("from", transformer.from_bus, transformer.from_ll_v), ("to", transformer.to_bus, transformer.to_ll_v)):
        if bus in buses and not _close(buses[bus].nominal_ln_v * math.sqrt(3.0), rated_ll_v):
            nominal_ll_v = buses[bus].nominal_ln_v * math.sqrt(3.0)
            message = f"{side}_ll_v {rated_ll_v:g} does not fit bus {bus} of {nominal_ll_v:g} V line to line"
            yield Finding(where=where, code="voltage-mismatch", message=message)


def _appliance(item: Connection | Shunt, kind: str, buses: dict[str, Bus], network: Network) -> Iterator[Finding]:
    where = f"{kind} {item.id}"
    yield from _finite(item, where)
    yield from _phases(item.phases, network, where)
    if item.bus not in buses:
        yield Finding(where=where, code="unknown-bus", message=f"bus {item.bus!r} does not exist")
        return
    absent = sorted(set(item.phases) - set(buses[item.bus].phases))
    if absent:
        yield Finding(where=where, code="missing-phase", message=f"uses phase {_listed(absent)}, which bus {item.bus} does not have")


def _ends(where: str, from_bus: str, to_bus: str, phases: tuple[int, ...], buses: dict[str, Bus]) -> Iterator[Finding]:
    if from_bus == to_bus:
        yield Finding(where=where, code="self-loop", message=f"both ends are at bus {from_bus}")
    for bus in dict.fromkeys((from_bus, to_bus)):
        if bus not in buses:
            yield Finding(where=where, code="unknown-bus", message=f"bus {bus!r} does not exist")
            continue
        absent = sorted(set(phases) - set(buses[bus].phases))
        if absent:
            yield Finding(where=where, code="missing-phase", message=f"uses phase {_listed(absent)}, which bus {bus} does not have")


def _fed(network: Network, buses: dict[str, Bus]) -> Iterator[Finding]:
    if not any(source.bus in buses for source in network.sources):
        return
    fed = fed_nodes(network)
    dark = [bus for bus in network.buses if not any((bus.id, phase) in fed for phase in bus.phases)]
    if dark:
        names = ", ".join(bus.id for bus in dark[:MAX_NAMED]) + (", ..." if len(dark) > MAX_NAMED else "")
        yield Finding(where=f"bus {names}", code="disconnected", message=f"{len(dark)} bus(es) have no path to the source")
    for bus in network.buses:
        missing = [phase for phase in bus.phases if (bus.id, phase) not in fed]
        if missing and len(missing) < len(bus.phases):
            yield Finding(where=f"bus {bus.id}", code="disconnected-phase", message=f"phase {_listed(missing)} has no path to the source")


def _phases(phases: tuple[int, ...], network: Network, where: str) -> Iterator[Finding]:
    if network.is_balanced and phases != THREE_PHASES:
        yield Finding(where=where, code="bad-phases", message=f"a balanced network has phases 1, 2, 3 everywhere, got {phases}")
    elif not phases or list(phases) != sorted(set(phases)) or not set(phases) <= set(THREE_PHASES):
        yield Finding(where=where, code="bad-phases", message=f"expected ascending phases out of 1, 2, 3, got {phases}")


def _matrix(matrix: Matrix, size: int, name: str, where: str) -> Iterator[Finding]:
    if _shape(matrix) != (size, size):
        yield Finding(where=where, code="bad-matrix", message=f"{name} must be {size} x {size}")
    elif any(abs(matrix[i][j] - matrix[j][i]) > 1e-9 * abs(matrix[i][i]) for i in range(size) for j in range(i)):
        yield Finding(where=where, code="bad-matrix", message=f"{name} must be symmetric")


def _shape(matrix: Matrix) -> tuple[int, int]:
    widths = {len(row) for row in matrix}
    return len(matrix), widths.pop() if len(widths) == 1 else -1


def _finite(element: Element, where: str) -> Iterator[Finding]:
    for name in element.__struct_fields__:
        value = getattr(element, name)
        numbers: Iterable[object] = (cell for row in value for cell in row) if name in ("r_ohm", "x_ohm", "c_f") else (value,)
        for number in numbers:
            if isinstance(number, float) and not math.isfinite(number):
                yield Finding(where=where, code="not-finite", message=f"{name} is {number}, expected a finite number")
                break


def _positive(value: float, name: str, where: str) -> Iterator[Finding]:
    if not value > 0.0:
        yield Finding(where=where, code="not-positive", message=f"{name} {value:g} must be greater than 0")


def _close(one_v: float, other_v: float) -> bool:
    return abs(one_v - other_v) <= MAX_VOLTAGE_MISMATCH_FRAC * max(abs(one_v), abs(other_v))


def _one(where: str, code: str, message: str) -> list[Finding]:
    return [Finding(where=where, code=code, message=message)]


def _listed(phases: Iterable[int]) -> str:
    return ", ".join(str(phase) for phase in phases)
