"""Operating envelopes: limits at connection points under which a feeder stays legal, each verified by exact AC power flow."""

from coordinator.envelopes.certificate import Certificate, Check, Envelope, EnvelopeResult, Extreme, Infeasible
from coordinator.envelopes.compute import PreparedFeeder, check_envelopes, compute_envelopes, compute_schedule, prepare
from coordinator.envelopes.values import AllocationRule, EnvelopeInputError, EnvelopeProblem, Limits, Participant, PassiveLoad

__all__ = [
    "AllocationRule",
    "Certificate",
    "Check",
    "Envelope",
    "EnvelopeInputError",
    "EnvelopeProblem",
    "EnvelopeResult",
    "Extreme",
    "Infeasible",
    "Limits",
    "Participant",
    "PassiveLoad",
    "PreparedFeeder",
    "check_envelopes",
    "compute_envelopes",
    "compute_schedule",
    "prepare",
]
