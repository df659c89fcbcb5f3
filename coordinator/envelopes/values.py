"""What is asked for when envelopes are computed.

Signs are those of the design: power is positive into a connection, limits are magnitudes. A *mover* is a connection whose power may be
anywhere in a known range: a participant inside its envelope, or a passive connection inside its declared band.

Guarantee classes (`protocols.messages.Guarantee`):

* ROBUST covers every point of the joint box: each participant anywhere in [-export_limit_w, import_limit_w] independently of all others,
  each passive connection anywhere in its band. On unbalanced feeders the worst points are phase-mixed, one phase exporting while the others
  import, and they make this class expensive.
* COINCIDENT covers the points at which the participants move together. Two boxes are covered: the *export box*, in which every participant
  lies in [-export_limit_w, background_import_w], and the *import box*, in which every participant lies in
  [-background_export_w, import_limit_w]. A point at which one participant imports more than its background while another exports more than
  its background lies in neither box and is not covered. Inside each box the corners are as phase-mixed as in the robust class.
"""

from __future__ import annotations

import enum
import math

import msgspec

from coordinator.errors import CoordinatorError
from coordinator.network.model import Network
from protocols.messages import Guarantee


class EnvelopeInputError(CoordinatorError):
    """An envelope problem contradicts itself or its network."""


class AllocationRule(enum.StrEnum):
    """How what the feeder can carry is shared out. x is a limit, M what its connection could use, w its weight, in each direction.

    EQUAL: the same number for everybody (capped by M), raised until something binds, import and export at the same fraction of the
    largest M; then each direction alone as far as it goes. PROPORTIONAL_FAIR: maximise sum w log x, so nobody who could use something
    gets zero. LEAST_CURTAILMENT: minimise sum w (M - x)^2 / M. MAX_VOLUME: maximise sum w x; may leave somebody at the floor.
    """

    EQUAL = "equal"
    PROPORTIONAL_FAIR = "proportional-fair"
    LEAST_CURTAILMENT = "least-curtailment"
    MAX_VOLUME = "max-volume"


class Participant(msgspec.Struct, frozen=True, kw_only=True):
    """A connection that gets an envelope.

    `max_import_w` and `max_export_w` are what it could want in this interval; it gets no more. `import_floor_w` is what it must be given
    (essential load). The background bounds belong to the coincident class. Reactive power is q = q_per_w * p + q_var.
    """

    connection: str
    max_import_w: float
    max_export_w: float
    import_floor_w: float = 0.0
    export_floor_w: float = 0.0
    background_import_w: float | None = None
    background_export_w: float = 0.0
    weight: float = 1.0
    q_per_w: float = 0.0
    q_var: float = 0.0

    @property
    def coincident_import_w(self) -> float:
        """Background import of the coincident class: as declared, else the import floor."""
        return self.import_floor_w if self.background_import_w is None else self.background_import_w


class PassiveLoad(msgspec.Struct, frozen=True, kw_only=True):
    """A connection without an envelope, somewhere in the band [low_w, high_w] (positive into the connection)."""

    connection: str
    low_w: float
    high_w: float
    q_per_w: float = 0.0
    q_var: float = 0.0


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What must hold. Voltage limits default to the network's; conductors without an ampacity are not limited; the neutral is not modelled.

    A transformer's loading is the sum of its phases' apparent powers over its rating, at the side that carries more. `check_windings` also
    holds every low-voltage phase current to its rated value, which is stricter where phases differ.
    """

    vmin_pu: float | None = None
    vmax_pu: float | None = None
    check_lines: bool = True
    check_transformers: bool = True
    check_windings: bool = False
    line_rating_frac: float = 1.0
    transformer_rating_frac: float = 1.0


class EnvelopeProblem(msgspec.Struct, frozen=True, kw_only=True):
    """One interval on one feeder. Every connection of the network is either a participant or a passive load.

    `import_weight` and `export_weight` let the shared box follow the hour: little import at noon, little export at night.
    """

    network: Network
    participants: tuple[Participant, ...]
    passive: tuple[PassiveLoad, ...] = ()
    limits: Limits = Limits()
    rule: AllocationRule = AllocationRule.PROPORTIONAL_FAIR
    guarantee: Guarantee = Guarantee.ROBUST
    import_weight: float = 1.0
    export_weight: float = 1.0


def check_problem(problem: EnvelopeProblem) -> None:
    """Raise EnvelopeInputError for the first contradiction."""
    if problem.guarantee is Guarantee.UNVERIFIED:
        raise EnvelopeInputError("guarantee is unverified: expected robust or coincident; this package publishes nothing else")
    if not problem.participants:
        raise EnvelopeInputError(f"{problem.network.name}: no participants, so there is nothing to allocate")
    movers: tuple[Participant | PassiveLoad, ...] = (*problem.participants, *problem.passive)
    names = [item.connection for item in movers]
    known = problem.network.connection_index
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise EnvelopeInputError(f"{problem.network.name}: connection {twice[0]} is listed more than once")
    unknown = sorted(set(names) - known.keys())
    if unknown:
        raise EnvelopeInputError(f"{problem.network.name}: has no connection {unknown[0]}")
    missing = sorted(known.keys() - set(names))
    if missing:
        raise EnvelopeInputError(
            f"{problem.network.name}: {len(missing)} connections are neither participant nor passive load, for example {missing[0]}"
        )
    for participant in problem.participants:
        _check_participant(participant)
    for load in problem.passive:
        if not (math.isfinite(load.low_w) and math.isfinite(load.high_w) and load.low_w <= load.high_w):
            raise EnvelopeInputError(f"{load.connection}: passive band [{load.low_w}, {load.high_w}] W is not an interval")
    for name, weight in (("import_weight", problem.import_weight), ("export_weight", problem.export_weight)):
        if not (math.isfinite(weight) and weight > 0.0):
            raise EnvelopeInputError(f"{name} is {weight}, expected a positive number")


def _check_participant(participant: Participant) -> None:
    where = participant.connection
    for name in ("max_import_w", "max_export_w", "import_floor_w", "export_floor_w", "background_export_w", "coincident_import_w"):
        value = getattr(participant, name)
        if not (math.isfinite(value) and value >= 0.0):
            raise EnvelopeInputError(f"{where}: {name} is {value}, expected a finite magnitude of at least 0 W")
    if participant.import_floor_w > participant.max_import_w or participant.export_floor_w > participant.max_export_w:
        raise EnvelopeInputError(
            f"{where}: floors ({participant.import_floor_w}, {participant.export_floor_w}) W exceed "
            f"demand ({participant.max_import_w}, {participant.max_export_w}) W"
        )
    if not (math.isfinite(participant.weight) and participant.weight > 0.0):
        raise EnvelopeInputError(f"{where}: weight is {participant.weight}, expected a positive number")
    if not (math.isfinite(participant.q_per_w) and math.isfinite(participant.q_var)):
        raise EnvelopeInputError(f"{where}: reactive power q = {participant.q_per_w} p + {participant.q_var} is not finite")
