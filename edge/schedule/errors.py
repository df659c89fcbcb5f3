"""What can go wrong in the schedule package itself. A plan that cannot be made is a `planner.Refusal`, a value, not one of these."""

from edge.errors import EdgeError


class ScheduleError(EdgeError):
    """Root of this package's errors."""


class HouseholdError(ScheduleError):
    """The description of the house or its priority ladder cannot be used; the message lists every reason."""


class BackendUnsuitable(ScheduleError):
    """A solver backend was asked for a model on which it does not converge."""
