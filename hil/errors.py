"""What can go wrong in the bench, by cause."""

from __future__ import annotations


class HilError(Exception):
    """Root of every error of this package. The message is one line: what, expected, got, where."""


class ScenarioError(HilError):
    """A scenario cannot be run as written: a wrong value, a missing file, data that are not there."""


class FeederError(HilError):
    """The network tables of a scenario do not describe a feeder that the plant can solve."""


class PlantError(HilError):
    """The power flow of the plant has no solution for the powers it was given."""


class BrokerError(HilError):
    """No Mosquitto broker could be found, installed or started."""


class RunError(HilError):
    """A run could not be carried through: a process ended, a barrier was not reached, a variant failed."""
