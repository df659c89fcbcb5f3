"""The broker is real; where none is installed, that is said in one line."""

import socket
from pathlib import Path

import pytest

from hil.broker import Broker, find_mosquitto
from hil.errors import BrokerError

needs_mosquitto = pytest.mark.skipif(find_mosquitto() is None, reason="no mosquitto on this machine")


@needs_mosquitto
def test_a_restarted_broker_comes_back_on_its_port() -> None:
    with Broker() as broker:
        port = broker.port
        broker.stop()
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", port), timeout=1.0)
        assert broker.start() == port
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()


@needs_mosquitto
def test_two_brokers_do_not_meet() -> None:
    with Broker() as one, Broker() as other:
        assert one.port != other.port


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match="not an executable file"):
        Broker(tmp_path / "mosquitto")
