"""The documents between a household and its coordinator: what is accepted, what is refused, and what they leave on the disks."""

from __future__ import annotations

import random
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from coordinator.cli import main as coordinator_main
from coordinator.enrolment import members as rules
from edge.cli import main as edge_main
from protocols.enrolment import (
    Answer,
    Bundle,
    EnrolmentRefused,
    Request,
    RequestBody,
    check_answer,
    check_authority,
    decode,
    encode,
    make_request,
    requested_key,
    signing_public_key,
    text_of,
    token_key,
)
from protocols.errors import BusError, ProtocolError
from protocols.mqtt_bus import TlsFiles, tls_context
from tests.deployment.community import NAME, Community


@pytest.fixture
def community(tmp_path: Path) -> Community:
    return Community(tmp_path)


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    """The last line that a command said on stderr."""
    return capsys.readouterr().err.strip().splitlines()[-1]


def csr(name: str, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256()).public_bytes(PEM).decode()


PEM = serialization.Encoding.PEM


def unsigned_csr(name: str, key: ec.EllipticCurvePrivateKey) -> str:
    """A request whose own signature is over another name of the same length."""
    der = x509.load_pem_x509_csr(csr("x" * len(name), key).encode()).public_bytes(serialization.Encoding.DER)
    return x509.load_der_x509_csr(der.replace(b"x" * len(name), name.encode())).public_bytes(PEM).decode()


def request_for(node: str, token: str, *, certificate_request: str | None = None, present: Ed25519PrivateKey | None = None) -> Request:
    signing = Ed25519PrivateKey.generate()
    text = csr(node, ec.generate_private_key(ec.SECP256R1())) if certificate_request is None else certificate_request
    key = text_of(signing.public_key().public_bytes_raw())
    body = RequestBody(community=NAME, node=node, certificate_request_pem=text, signing_key=key)
    return make_request(body, signing, token=token, present_key=present)


def test_a_bundle_works_once(community: Community, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = community.bundle("h07", "load18")
    thief = tmp_path / "thief.request"
    assert edge_main(["enrol", str(bundle), "--folder", str(tmp_path / "thief"), "--out", str(thief)]) == 0
    community.answer("h07", community.request("h07", bundle))
    capsys.readouterr()
    members = community.folder.members()
    assert community.coordinator("accept", str(thief), "--out", str(tmp_path / "answer")) == 2
    assert "its bundle was used already" in complaint(capsys)
    assert community.folder.members() == members
    assert not (tmp_path / "answer").exists()


def test_the_same_bundle_gives_the_same_request_until_it_is_answered(community: Community, tmp_path: Path) -> None:
    bundle = community.bundle("h07", "load18")
    first = community.request("h07", bundle).read_bytes()
    assert community.request("h07", bundle).read_bytes() == first


def test_a_bundle_that_was_replaced_or_is_too_old_is_void(community: Community, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    request = community.request("h07", community.bundle("h07", "load18"))
    community.bundle("h07", "load18")
    assert community.coordinator("accept", str(request)) == 2
    assert "not made with the bundle that was issued last" in complaint(capsys)
    bundle = decode((tmp_path / "h07.bundle").read_bytes(), Bundle)
    made = request_for("h07", bundle.token)
    rules.check_request(community.folder.members(), made, bundle.expires_s - 1.0)
    with pytest.raises(EnrolmentRefused, match="its bundle expired"):
        rules.check_request(community.folder.members(), made, bundle.expires_s + 1.0)


def test_a_request_cannot_ask_for_another_name_key_or_community(community: Community, tmp_path: Path) -> None:
    now_s = time.time()
    token = decode(community.bundle("h07", "load18").read_bytes(), Bundle).token
    other = decode(community.bundle("h08", "load19").read_bytes(), Bundle).token
    members = community.folder.members()
    good = request_for("h07", token)
    rules.check_request(members, good, now_s)
    p256 = ec.generate_private_key(ec.SECP256R1())
    for forged in (
        request_for("h08", token),
        request_for("h09", token),
        request_for("coordinator", token),
        request_for("h07", other),
        request_for("h07", token, present=Ed25519PrivateKey.generate()),
        msgspec.structs.replace(good, possession=request_for("h07", token).possession),
        msgspec.structs.replace(good, body=msgspec.structs.replace(good.body, community="other")),
        msgspec.structs.replace(good, body=msgspec.structs.replace(good.body, signing_key="A" * 43)),
    ):
        with pytest.raises(EnrolmentRefused):
            rules.check_request(members, forged, now_s)
    for text in (
        csr("coordinator", p256),
        csr("h08", p256),
        csr("h07", ec.generate_private_key(ec.SECP384R1())),
        unsigned_csr("h07", p256),
        csr("h07", rsa.generate_private_key(65537, 2048)),
        "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
    ):
        forged = request_for("h07", token, certificate_request=text)
        rules.check_request(members, forged, now_s)
        with pytest.raises(EnrolmentRefused):
            requested_key(forged)
        path = tmp_path / "forged"
        path.write_bytes(encode(forged))
        assert community.coordinator("accept", str(path)) == 2
    assert community.folder.members() == members, "refused requests leave the bundle as it was"


def test_an_answer_for_another_key_name_or_of_another_authority_is_not_installed(
    community: Community, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    community.request("h07", community.bundle("h07", "load18"))
    key = ec.generate_private_key(ec.SECP256R1())
    authority = community.folder.open_authority(None)
    stranger = Community(tmp_path_factory.mktemp("e")).folder.open_authority(None)
    waiting = serialization.load_pem_private_key((tmp_path / "h07/pending/tls.key").read_bytes(), None).public_key()
    assert isinstance(waiting, ec.EllipticCurvePublicKey)
    now_s = time.time()
    for certificate, why in (
        (authority.issue_client("h07", key.public_key(), now_s=now_s, days=1), "another key"),
        (authority.issue_client("h08", waiting, now_s=now_s, days=1), "names h08"),
        (stranger.issue_client("h07", waiting, now_s=now_s, days=1), "not signed by the authority"),
        (authority.issue_client("h07", waiting, now_s=now_s - 1e6, days=1), "valid from"),
    ):
        path = tmp_path / "bad.answer"
        path.write_bytes(encode(Answer(community=NAME, node="h07", certificate_pem=certificate.public_bytes(PEM).decode())))
        assert edge_main(["enrol", str(path), "--folder", str(tmp_path / "h07")]) == 1
        assert why in complaint(capsys)
        assert not (tmp_path / "h07" / "current").exists()


def test_a_revoked_name_is_never_given_again(community: Community, capsys: pytest.CaptureFixture[str]) -> None:
    community.enrol("h07", "load18")
    assert community.coordinator("enrol", "h07", "--connection", "load18") == 2
    assert "is enrolled" in complaint(capsys)
    assert community.coordinator("revoke", "h07") == 0
    assert community.coordinator("enrol", "h07", "--connection", "load18") == 2
    assert "never given again" in complaint(capsys)
    assert community.coordinator("revoke", "h07") == 2
    for name in ("coordinator", "broker", "page"):
        assert community.coordinator("revoke", name) == 2
        assert community.coordinator("enrol", name, "--connection", "load20") == 2


def test_secrets_are_for_their_owner_alone(community: Community, tmp_path: Path) -> None:
    community.enrol("h07", "load18")
    public = {"authority.pem", "broker.pem", "page.pem", "tls.pem", "coordinator.pub", "h07.pub"}
    roots = [community.folder.root, tmp_path / "h07", tmp_path / "h07.bundle", tmp_path / "h07.request", tmp_path / "h07.toml"]
    files = [path for root in roots for path in (root.rglob("*") if root.is_dir() else [root]) if path.is_file() and not path.is_symlink()]
    assert len(files) > 20
    assert [path for path in files if path.name not in public and stat.S_IMODE(path.stat().st_mode) != 0o600] == []


def test_private_keys_and_tokens_stay_where_they_were_made(community: Community, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    community.enrol("h07", "load18")
    said = "".join(capfd.readouterr())
    token = decode((tmp_path / "h07.bundle").read_bytes(), Bundle).token
    on_edge = [path.read_bytes() for path in (tmp_path / "h07").rglob("*") if path.is_file()]
    at_coordinator = [path.read_bytes() for path in community.folder.root.rglob("*") if path.is_file()]
    travelled = [(tmp_path / f"h07.{kind}").read_bytes() for kind in ("bundle", "request", "answer")]
    for name in ("tls.key", "signing.key"):
        secret = (tmp_path / "h07/current" / name).read_bytes().splitlines()[1]
        assert not any(secret in data for data in (*at_coordinator, *travelled, said.encode()))
    assert not any(token.encode() in data for data in (*on_edge, *at_coordinator, *travelled[1:], said.encode()))
    assert (community.folder.root / "authority/authority.key").read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    bundle = decode(travelled[0], Bundle)
    assert token not in repr(bundle) and token not in str(list(bundle.__rich_repr__()))
    assert token_key(token) not in repr(rules.Invitation(key=token_key(token), expires_s=0.0))


@pytest.mark.parametrize("file", ["passphrase", "authority/authority.key", "members.json"])
def test_a_secret_that_others_may_read_is_refused(community: Community, capsys: pytest.CaptureFixture[str], file: str) -> None:
    request = community.request("h07", community.bundle("h07", "load18"))
    (community.folder.root / file).chmod(0o640)
    assert community.coordinator("accept", str(request)) == 2
    assert "chmod 600" in complaint(capsys)
    (community.folder.root / file).chmod(0o600)
    community.answer("h07", request)


def test_a_key_of_the_edge_that_others_may_read_is_refused(community: Community, tmp_path: Path) -> None:
    current = community.enrol("h07", "load18")
    (current / "tls.key").chmod(0o644)
    files = TlsFiles(ca_file=str(current / "authority.pem"), cert_file=str(current / "tls.pem"), key_file=str(current / "tls.key"))
    with pytest.raises(BusError, match="chmod 600"):
        tls_context(files)


def test_the_passphrase_can_be_kept_elsewhere(community: Community, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = community.request("h07", community.bundle("h07", "load18"))
    kept = tmp_path / "stick"
    (community.folder.root / "passphrase").rename(kept)
    assert community.coordinator("accept", str(request)) == 2
    assert "--passphrase-file" in complaint(capsys)
    wrong = tmp_path / "wrong"
    wrong.touch(0o600)
    wrong.write_text("not the passphrase")
    assert community.coordinator("accept", str(request), "--passphrase-file", str(wrong)) == 2
    assert "wrong passphrase" in complaint(capsys)
    answer = str(tmp_path / "answer")
    assert community.coordinator("accept", str(request), "--passphrase-file", str(kept), "--out", answer) == 0


def test_init_spoils_nothing_that_is_there(community: Community, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    before = (community.folder.root / "members.json").read_bytes()
    assert coordinator_main(["init", str(community.folder.root), "--community", NAME, "--network", "ieee33"]) == 2
    assert "not empty" in complaint(capsys)
    assert (community.folder.root / "members.json").read_bytes() == before
    for option, value in (("--community", "a b"), ("--host", "no host"), ("--administrator", "../x")):
        arguments = ["init", str(tmp_path / "new"), "--community", NAME, "--network", "ieee33", option, value]
        assert coordinator_main(arguments) == 2
    assert not (tmp_path / "new").exists()


def test_an_identity_is_added_to_a_configuration_that_has_none(community: Community, tmp_path: Path) -> None:
    config = tmp_path / "h07.toml"
    config.write_text('# my house\n[site]\nimport_rating_w = 14490.0\nexport_rating_w = 5000.0\n')
    community.enrol("h07", "load18")
    text = config.read_text()
    assert text.startswith("# my house\n[site]")
    known = msgspec.toml.decode(text)
    assert known["identity"]["node"] == "h07"
    assert known["broker"]["port"] == community.port
    request = tmp_path / "renewal"
    assert edge_main(["renew", "--folder", str(tmp_path / "h07"), "--out", str(request)]) == 0
    community.answer("h07", request)
    assert config.read_text() == text, "a renewal leaves the configuration as it is"


def test_a_power_cut_while_an_answer_is_installed_leaves_the_old_identity(
    community: Community, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    current = community.enrol("h07", "load18")
    before = (current / "tls.pem").read_bytes()
    request = tmp_path / "renewal"
    assert edge_main(["renew", "--folder", str(tmp_path / "h07"), "--out", str(request)]) == 0
    assert community.coordinator("accept", str(request), "--out", str(tmp_path / "renewed")) == 0

    def cut(*_: object, **__: object) -> None:
        raise OSError("the power is gone")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "symlink_to", cut)
        assert edge_main(["enrol", str(tmp_path / "renewed"), "--folder", str(tmp_path / "h07")]) == 1
    assert (current / "tls.pem").read_bytes() == before


def mutations(rng: random.Random, data: bytes, count: int) -> Iterator[bytes]:
    """Bytes flipped, cut, doubled and inserted; values swapped for hostile ones; noise."""
    hostile = [b"null", b"true", b"-1", b"1e999", b"[" * 5000]
    hostile += [b'""', b"{}", b'"\\u0000"', b'"\\ud800"', b"9" * 400, b'"' + b"A" * 9000 + b'"']
    for _ in range(count):
        changed = bytearray(data)
        match rng.randrange(6):
            case 0:
                for _ in range(rng.randint(1, 8)):
                    changed[rng.randrange(len(changed))] = rng.randrange(256)
            case 1:
                del changed[rng.randrange(len(changed)) :]
            case 2:
                at = rng.randrange(len(changed))
                changed[at:at] = rng.randbytes(rng.randint(1, 40))
            case 3:
                colons = [index for index, byte in enumerate(data) if byte == ord(":")]
                at = rng.choice(colons) + 1
                end = min((index for index in (data.find(b",", at), data.find(b"}", at)) if index > 0), default=len(data))
                changed[at:end] = rng.choice(hostile)
            case 4:
                at, length = rng.randrange(len(changed)), rng.randint(1, 200)
                changed[at : at + length] = data[rng.randrange(len(data)) :][:length]
            case _:
                changed = bytearray(rng.randbytes(rng.randint(0, 2000)))
        yield bytes(changed)


def fuzz(community: Community, tmp_path: Path, seed: int, count: int) -> int:
    """Every changed document is refused in one line, or means what the unchanged one did. Returns how many were refused."""
    rng, now_s = random.Random(seed), time.time()
    bundle_path = community.bundle("h07", "load18")
    bundle = decode(bundle_path.read_bytes(), Bundle)
    request_bytes = community.request("h07", bundle_path).read_bytes()
    members = community.folder.members()
    waiting = serialization.load_pem_private_key((tmp_path / "h07/pending/tls.key").read_bytes(), None).public_key()
    public = waiting.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert isinstance(waiting, ec.EllipticCurvePublicKey)
    certificate = community.folder.open_authority(None).issue_client("h07", waiting, now_s=now_s, days=1)
    answer_bytes = encode(Answer(community=NAME, node="h07", certificate_pem=certificate.public_bytes(PEM).decode()))
    request = decode(request_bytes, Request)

    def read_bundle(data: bytes) -> None:
        read = decode(data, Bundle)
        check_authority(read.authority_pem, now_s)
        signing_public_key(read.coordinator_key)

    def read_request(data: bytes) -> None:
        read = decode(data, Request)
        rules.check_request(members, read, now_s)
        assert read.body == request.body

    def read_certificate_request(data: bytes) -> None:
        try:
            text = data.decode("ascii")
        except UnicodeDecodeError:
            return
        made = request_for("h07", bundle.token, certificate_request=text)
        key = requested_key(decode(encode(made), Request))
        assert isinstance(key, ec.EllipticCurvePublicKey)

    def read_answer(data: bytes) -> None:
        read = decode(data, Answer)
        found = check_answer(read, community=NAME, node="h07", authority_pem=bundle.authority_pem, public_key=public, now_s=now_s)
        assert found.public_key() == certificate.public_key()

    refusals = 0
    for reader, good in (
        (read_bundle, bundle_path.read_bytes()),
        (read_request, request_bytes),
        (read_certificate_request, b":" + request.body.certificate_request_pem.encode()),
        (read_answer, answer_bytes),
    ):
        for data in mutations(rng, good, count // 4):
            try:
                reader(data)
            except ProtocolError as refusal:
                refusals += 1
                assert "\n" not in str(refusal) and len(str(refusal)) < 400, repr(data)
                assert bundle.token not in str(refusal)
    return refusals


def test_damaged_documents_are_refused_in_one_line(community: Community, tmp_path: Path) -> None:
    assert fuzz(community, tmp_path, 5, 1000) > 800


@pytest.mark.slow
def test_ten_thousand_damaged_documents_are_refused_in_one_line(community: Community, tmp_path: Path) -> None:
    assert fuzz(community, tmp_path, 6, 40_000) > 32_000
