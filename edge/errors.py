"""What can go wrong on the edge: one root, one class per cause, numbers kept as attributes.

A message says what happened, what was expected, what was found, and where. What is part of normal operation (a plan that cannot be
made, a control that is refused) is a returned value, not one of these.
"""


class EdgeError(Exception):
    """Root of everything that the edge raises."""


class ConfigurationError(EdgeError):
    """The configuration file cannot be used; the message is one line: file, what, path inside the file."""


class EnrolmentError(EdgeError):
    """An enrolment or renewal cannot go on; the text says why in one line and shows no secret."""


class StoreError(EdgeError):
    """The durable state could not be read or written."""


class DeviceError(EdgeError):
    """One device did not do what was asked of it; the others are not concerned."""

    def __init__(self, message: str, *, device: str = "") -> None:
        super().__init__(message)
        self.device = device


class DeviceUnreachable(DeviceError):
    """No connection, or the connection was lost."""


class DeviceTimeout(DeviceError):
    """The device did not answer within its time."""


class DeviceRefused(DeviceError):
    """The device answered with an exception code."""

    def __init__(self, message: str, *, device: str = "", exception_code: int | None = None) -> None:
        super().__init__(message, device=device)
        self.exception_code = exception_code


class DeviceGarbage(DeviceError):
    """The device answered with something that cannot be true: wrong length, not-implemented values, numbers out of range."""


class DeviceNotVerified(DeviceError):
    """A setpoint was written, but reading it back shows something else."""


class ProfileError(DeviceError):
    """A register map or a device's model list cannot be used."""
