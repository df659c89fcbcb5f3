"""What a person or another machine hands in as a file: configurations, profiles, scenarios, enrolment documents."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from coordinator.config import decode_config as decode_coordinator
from coordinator.enrolment import members as rules
from coordinator.enrolment.page_tokens import read_page_tokens, token_hash, tokens_text
from coordinator.errors import CoordinatorError
from edge.config import decode_config as decode_edge
from edge.devices.profile import parse_profile
from edge.errors import EdgeError
from hil.errors import HilError
from hil.scenario import decode_scenario
from protocols.enrolment import (
    Answer,
    Bundle,
    Request,
    check_answer,
    check_authority,
    decode,
    kind_of,
    requested_key,
    signing_public_key,
    token_key,
)
from protocols.errors import ProtocolError
from protocols.files import write_private
from tests.deployment.community import Community
from tests.fuzz.mutation import boundary, is_one_line, mutations

ROOT = Path(__file__).parents[2]
EDGE = b"""
[identity]
community = "street"
node = "home-01"
key_file = "home.key"
coordinator_keys = ["coordinator.pub"]
[site]
import_rating_w = 14000.0
export_rating_w = 10000.0
[broker]
host = "localhost"
port = 8883
tls = { ca_file = "a", cert_file = "b", key_file = "c" }
[control]
cycle_s = 1.0
telemetry_period_s = 60.0
[[devices]]
name = "meter"
kind = "meter"
host = "192.0.2.1"
[[devices]]
name = "battery"
kind = "battery"
serial_port = "/dev/ttyUSB0"
baud = 9600
unit = 2
"""
COORDINATOR = b"""
[identity]
community = "street"
[feeder]
network = "ieee33"
vmin_pu = 0.94
vmax_pu = 1.1
[[nodes]]
name = "home-01"
connection = "load2"
import_rating_w = 15000.0
export_rating_w = 10000.0
[envelopes]
rule = "equal"
interval_s = 300.0
horizon_s = 7200.0
[page]
address = "127.0.0.1"
port = 8080
"""


def documents() -> dict[str, tuple[list[bytes], Callable[[bytes], Any]]]:
    """Name of the boundary, good inputs, and what reads them."""
    profiles = sorted((ROOT / "edge/devices/profiles").glob("*.toml"))
    scenarios = sorted((ROOT / "hil/scenarios").glob("*.toml"))
    return {
        "edge.toml": ([EDGE], lambda data: decode_edge(data, "edge.toml")),
        "coordinator.toml": ([COORDINATOR], lambda data: decode_coordinator(data, "coordinator.toml")),
        "profile.toml": ([path.read_bytes() for path in profiles], lambda data: parse_profile(data, "profile.toml")),
        "scenario.toml": ([path.read_bytes() for path in scenarios], lambda data: decode_scenario(data, "scenario.toml")),
    }


@boundary
@pytest.mark.parametrize("name", sorted(documents()))
def test_a_bad_configuration_is_one_line(name: str, count: int) -> None:
    good, read = documents()[name]
    for data in good:
        read(data)
    refused = 0
    for data in mutations(good, count):
        try:
            read(data)
        except (EdgeError, CoordinatorError, HilError, ProtocolError) as error:
            refused += 1
            assert is_one_line(str(error)), (data, str(error))
            assert str(error).startswith(name), (data, str(error))
    assert refused > count / 2


@boundary
def test_a_bad_bundle_request_or_answer_is_one_line(count: int, tmp_path: Path) -> None:
    """Each document that still can be read goes on to the rules that would act on it, on both sides."""
    community = Community(tmp_path)
    bundle_data = community.bundle("home-01", "load2").read_bytes()
    request_data = community.request("home-01", tmp_path / "home-01.bundle").read_bytes()
    assert community.coordinator("accept", str(tmp_path / "home-01.request"), "--out", str(tmp_path / "home-01.answer")) == 0
    answer_data = (tmp_path / "home-01.answer").read_bytes()
    members, now_s = community.folder.members(), time.time()
    bundle = decode(bundle_data, Bundle)
    check_authority(bundle.authority_pem, now_s)
    accepted = 0
    for data in mutations([bundle_data, request_data, answer_data], count):
        try:
            kind = kind_of(data) if data.startswith(b'{"commonwatt"') else Request
            document = decode(data, kind)
            if isinstance(document, Bundle):
                check_authority(document.authority_pem, now_s)
                signing_public_key(document.coordinator_key)
                token_key(document.token)
            elif isinstance(document, Request):
                requested_key(document)
                rules.check_request(members, document, now_s)
            else:
                assert isinstance(document, Answer)
                own = decode(request_data, Request)
                check_answer(
                    document,
                    community=bundle.community,
                    node=bundle.node,
                    authority_pem=bundle.authority_pem,
                    public_key=requested_key(own).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
                    now_s=now_s,
                )
            accepted += 1
        except (ProtocolError, CoordinatorError) as error:
            assert is_one_line(str(error)), (data, str(error))
            assert bundle.token not in str(error), "no secret in words"
    assert accepted < count


@boundary
def test_a_bad_list_of_tokens_lets_nobody_in_by_accident(count: int, tmp_path: Path) -> None:
    path = tmp_path / "page.tokens"
    good = tokens_text({"home-a": token_hash("a"), "admin.operator": token_hash("b")}).encode()
    for data in mutations([good], count):
        write_private(path, data)
        try:
            tokens = read_page_tokens(path)
        except (CoordinatorError, ProtocolError) as error:
            assert is_one_line(str(error))
        else:
            assert all("\n" not in name and ":" not in name for name in tokens)
