"""One network of a feeder, in SI units, whatever file it came from.

Conventions, stated once for every user of the model:

* **Phases** are the numbers 1, 2, 3 of the *system*: phase 2 of a bus is galvanically phase 2 of its neighbour. Loaders relabel files
  that number phases locally. The neutral is Kron-reduced and grounded; a `nominal_ln_v` is a phase-to-neutral voltage.
* **An unbalanced network** has phase impedance matrices: the rows and columns of `Line.r_ohm` follow `Line.phases`.
* **A balanced network** is its positive sequence: every element has phases (1, 2, 3), every matrix is 1 x 1 and holds the
  positive-sequence impedance of one phase, and the power of a connection, shunt or source is the *three-phase total*. Voltages are still
  phase to neutral and currents are per phase conductor, so |S| = 3 |V_ln| |I| and a drop is z I in phase-to-neutral volts.
* **Totals, not per kilometre**: impedances are those of the whole line.
* **Power** of a connection is positive into the connection (a load is positive, an exporting home negative), total over its phases,
  and splits equally over them.
* **Per unit** is used for voltages only, on the `nominal_ln_v` of the bus at hand.
* A transformer's from side is its high-voltage side, where the source is in every distribution feeder.
"""

from __future__ import annotations

import enum
from functools import cached_property

import msgspec
import numpy as np
from numpy.typing import NDArray

THREE_PHASES = (1, 2, 3)
DEFAULT_POWER_FACTOR = 0.95

Matrix = tuple[tuple[float, ...], ...]
ComplexArray = NDArray[np.complex128]


class NetworkKind(enum.StrEnum):
    """Positive sequence alone, or three phases that may differ."""

    BALANCED = "balanced"
    UNBALANCED = "unbalanced"


class Bus(msgspec.Struct, frozen=True, kw_only=True):
    """A place with one voltage per phase."""

    id: str
    nominal_ln_v: float
    phases: tuple[int, ...] = THREE_PHASES


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A line, cable or closed switch between two buses, by its total phase matrices.

    `c_f` is the Maxwell capacitance matrix of the whole line (mutual entries are negative or zero), () where there is none.
    `is_switchable` says that operation may open or close it; an open switchable line is a tie.
    """

    id: str
    from_bus: str
    to_bus: str
    r_ohm: Matrix
    x_ohm: Matrix
    phases: tuple[int, ...] = THREE_PHASES
    c_f: Matrix = ()
    ampacity_a: float | None = None
    in_service: bool = True
    is_switchable: bool = False

    @property
    def is_tie(self) -> bool:
        """Whether the line is a normally open switch."""
        return self.is_switchable and not self.in_service

    def impedance_ohm(self) -> ComplexArray:
        """Series impedance matrix r + jx, rows and columns in the order of `phases` (1 x 1 when balanced)."""
        return np.array(self.r_ohm, dtype=np.complex128) + 1j * np.array(self.x_ohm, dtype=np.complex128)


class Transformer(msgspec.Struct, frozen=True, kw_only=True):
    """A two-winding three-phase transformer.

    The short-circuit impedance r_frac + j x_frac is in per unit of `rated_va` and the rated voltages *times their tap factors*, and is
    the sum of both windings. A tap factor multiplies the turns of its winding: `from_tap_frac` 1.025 lowers the secondary voltage by 2.4 %.
    The no-load loss and magnetising current are drawn by an admittance at the low-voltage terminals, and are stated at rated voltage.
    `vector_group` is an IEC 60076-1 name, for example Dyn1 (high voltage leads low voltage by 30 degrees) or YNyn0.
    """

    id: str
    from_bus: str
    to_bus: str
    rated_va: float
    from_ll_v: float
    to_ll_v: float
    r_frac: float
    x_frac: float
    vector_group: str = "Dyn1"
    no_load_w: float = 0.0
    magnetising_frac: float = 0.0
    from_tap_frac: float = 1.0
    to_tap_frac: float = 1.0
    in_service: bool = True

    @property
    def clock(self) -> int:
        """Lag of the low-voltage side in steps of 30 degrees, the number at the end of the vector group."""
        return int(self.vector_group.lstrip("DYZNdyzn") or 0)

    @property
    def turns_ratio(self) -> float:
        """Line-to-line voltage ratio from/to at the present taps, without load."""
        return self.from_ll_v * self.from_tap_frac / (self.to_ll_v * self.to_tap_frac)

    def no_load_siemens(self) -> complex:
        """Admittance of each phase to neutral that the no-load branch puts on the low-voltage terminals."""
        rated_square_v = (self.to_ll_v * self.to_tap_frac) ** 2
        return complex(self.no_load_w, -self.magnetising_frac * self.rated_va) / rated_square_v

    def impedance_to_side_ohm(self) -> complex:
        """Short-circuit impedance of one phase seen from the low-voltage side at the present tap."""
        return complex(self.r_frac, self.x_frac) * (self.to_ll_v * self.to_tap_frac) ** 2 / self.rated_va


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """The grid above: an ideal voltage behind an impedance. Zero impedance is an infinite bus."""

    bus: str
    voltage_pu: float = 1.0
    angle_rad: float = 0.0
    r1_ohm: float = 0.0
    x1_ohm: float = 0.0
    r0_ohm: float = 0.0
    x0_ohm: float = 0.0


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """A customer, community or lumped load: constant power, phase to neutral, split equally over its phases.

    `p_w` and `q_var` are the file's base load and the default of every power flow; `power_factor` (lagging for a load) is what to
    assume for reactive power where only active power is known.
    """

    id: str
    bus: str
    phases: tuple[int, ...] = THREE_PHASES
    p_w: float = 0.0
    q_var: float = 0.0
    power_factor: float = DEFAULT_POWER_FACTOR


class Shunt(msgspec.Struct, frozen=True, kw_only=True):
    """A constant admittance from each of its phases to ground, per phase (a capacitor has b_siemens > 0)."""

    id: str
    bus: str
    phases: tuple[int, ...] = THREE_PHASES
    g_siemens: float = 0.0
    b_siemens: float = 0.0


class Network(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A feeder. `vmin_pu` and `vmax_pu` bound every node's voltage, on its own bus's `nominal_ln_v`."""

    name: str
    kind: NetworkKind
    frequency_hz: float
    buses: tuple[Bus, ...]
    sources: tuple[Source, ...]
    lines: tuple[Line, ...] = ()
    transformers: tuple[Transformer, ...] = ()
    connections: tuple[Connection, ...] = ()
    shunts: tuple[Shunt, ...] = ()
    vmin_pu: float
    vmax_pu: float

    @property
    def is_balanced(self) -> bool:
        """Whether this is a positive-sequence network."""
        return self.kind is NetworkKind.BALANCED

    @property
    def source(self) -> Source:
        """The one source of a valid network."""
        assert len(self.sources) == 1, f"{self.name} has {len(self.sources)} sources"
        return self.sources[0]

    @cached_property
    def bus_index(self) -> dict[str, int]:
        """Position of each bus by its id."""
        return {bus.id: index for index, bus in enumerate(self.buses)}

    @cached_property
    def connection_index(self) -> dict[str, int]:
        """Position of each connection by its id."""
        return {connection.id: index for index, connection in enumerate(self.connections)}

    @cached_property
    def nominal_ln_v(self) -> NDArray[np.float64]:
        """Nominal phase-to-neutral voltage of each bus."""
        return np.array([bus.nominal_ln_v for bus in self.buses], dtype=np.float64)

    def base_power_w(self) -> NDArray[np.float64]:
        """Base active power of every connection."""
        return np.array([connection.p_w for connection in self.connections], dtype=np.float64)

    def base_reactive_var(self) -> NDArray[np.float64]:
        """Base reactive power of every connection."""
        return np.array([connection.q_var for connection in self.connections], dtype=np.float64)

    def with_closed(self, closed_ids: frozenset[str]) -> Network:
        """Return the same network with exactly these switchable lines closed and the other switchable lines open."""
        lines = tuple(
            msgspec.structs.replace(line, in_service=line.id in closed_ids) if line.is_switchable else line for line in self.lines
        )
        return msgspec.structs.replace(self, lines=lines)
