"""The topic grammar, and MQTT 5's matching of filters (section 4.7)."""

from __future__ import annotations

import pytest

from protocols.errors import TopicError
from protocols.topics import control_topic, coordinator_status_topic, matches, node_topic, owner


def test_every_topic_has_one_owner() -> None:
    assert owner(node_topic("street", "h01", "telemetry")) == ("street", "h01", "telemetry")
    assert owner(control_topic("street", "h01", "default")) == ("street", "coordinator", "default")
    assert owner(coordinator_status_topic("street")) == ("street", "coordinator", "status")


@pytest.mark.parametrize("name", ["", "a/b", "+", "#", "h 1", "-h", "x" * 65, "ä"])
def test_a_name_is_one_clean_level(name: str) -> None:
    with pytest.raises(TopicError):
        owner(f"commonwatt/1/street/node/{name}/status")
    with pytest.raises(TopicError):
        node_topic(name, "h01", "status")


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(TopicError):
        node_topic("street", "h01", "secrets")


@pytest.mark.parametrize(
    ("topic_filter", "topic", "covered"),
    [
        ("sport/tennis/player1/#", "sport/tennis/player1", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/ranking", True),
        ("sport/tennis/+", "sport/tennis/player1", True),
        ("sport/tennis/+", "sport/tennis/player1/ranking", False),
        ("sport/+", "sport", False),
        ("sport/+", "sport/", True),
        ("+/+", "/finance", True),
        ("#", "a/b/c", True),
        ("a/b", "a/b", True),
        ("a/b", "a", False),
    ],
)
def test_filters_match_as_mqtt_says(topic_filter: str, topic: str, covered: bool) -> None:
    assert matches(topic_filter, topic) is covered
