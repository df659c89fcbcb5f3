"""A test run that is ended from outside cleans up after itself, as one that is interrupted does."""

import signal


def pytest_configure() -> None:
    """SIGTERM becomes KeyboardInterrupt."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
