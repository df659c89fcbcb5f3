"""`commonwatt-edge enrol` and `renew`: what the commands do, and the configuration that follows. A shell.

`enrol` takes a bundle and gives a request, or takes an answer and installs it, by what the file is; so one line enrols over ssh:

    commonwatt-coordinator enrol h07 ... --out - | ssh house commonwatt-edge enrol - \\
      | commonwatt-coordinator accept - | ssh house commonwatt-edge enrol -
"""

from __future__ import annotations

import argparse
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edge.enrolment.identity import Identity
from edge.errors import ConfigurationError, EnrolmentError
from protocols.clock import SystemClock
from protocols.documents import DocumentRefused, decode_toml
from protocols.enrolment import Answer, Bundle, EnrolmentRefused, Request, check_authority, decode, encode, fingerprint, kind_of
from protocols.errors import ProtocolError
from protocols.files import STANDARD_STREAM, FileRefused, read_any, write_private

EPILOG = (
    "A BUNDLE comes from `commonwatt-coordinator enrol NODE` and is a secret until it is used. Keys are made here and stay here."
    " The request that is written goes to `commonwatt-coordinator accept`, whose ANSWER is given to this command again."
    " With - it reads standard input and writes the request to standard output: all of it can be one line of pipes over ssh."
)


def add_enrolment_parsers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add both subcommands to the parser of `commonwatt-edge`."""
    enrol = commands.add_parser(
        "enrol", help="join a community with the coordinator's bundle", description="Join a community.", epilog=EPILOG
    )
    enrol.add_argument("file", type=Path, metavar="BUNDLE|ANSWER", help="what the coordinator gave (- for standard input)")
    _add_common(enrol)
    enrol.add_argument("--config", type=Path, metavar="FILE", help="add the sections identity and broker to this configuration")
    enrol.add_argument("--replace", action="store_true", help="begin anew although an identity is installed")
    enrol.set_defaults(run=_enrol)
    renew = commands.add_parser(
        "renew",
        help="ask for a new certificate before the present one expires",
        description="Make a new key and a request that the present key signs; `accept` and `enrol ANSWER` as for an enrolment.",
    )
    _add_common(renew)
    renew.add_argument("--new-signing-key", action="store_true", help="change the key that signs messages as well")
    renew.set_defaults(run=_renew)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--folder", type=Path, default=Path("identity"), metavar="FOLDER", help="where keys and certificate live (default identity)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="the request to write (default NODE.request, - for standard output)")


def _enrol(args: argparse.Namespace) -> int:
    identity, now_s = Identity(args.folder), SystemClock().now_s()
    try:
        data = read_any(args.file)
    except FileRefused as error:
        raise ConfigurationError(str(error)) from error
    try:
        kind = kind_of(data)
        if kind is Answer:
            _install(identity, decode(data, Answer), args.config, now_s)
        elif kind is Bundle:
            bundle = decode(data, Bundle)
            request = identity.begin(bundle, now_s, replace=args.replace)
            _say(f"authority of {bundle.community}: {fingerprint(check_authority(bundle.authority_pem, now_s))}")
            _give(request, args.out, through_pipe=args.file == STANDARD_STREAM)
        else:
            raise EnrolmentRefused("a request is for `commonwatt-coordinator accept`; this takes a bundle or an answer")
    except (ProtocolError, OSError) as error:
        raise EnrolmentError(f"{args.file}: {error}") from error
    return 0


def _renew(args: argparse.Namespace) -> int:
    try:
        request = Identity(args.folder).renew(new_signing_key=args.new_signing_key)
        _give(request, args.out, through_pipe=False)
    except (ProtocolError, OSError) as error:
        raise EnrolmentError(str(error)) from error
    return 0


def _give(request: Request, out: Path | None, *, through_pipe: bool) -> None:
    path = out if out is not None else STANDARD_STREAM if through_pipe else Path(f"{request.body.node}.request")
    if path == STANDARD_STREAM:
        sys.stdout.write(encode(request).decode("ascii"))
        sys.stdout.flush()
        return
    write_private(path, encode(request))
    _say(f"keys made; take {path} to the coordinator: commonwatt-coordinator accept {path.name}")


def _install(identity: Identity, answer: Answer, config: Path | None, now_s: float) -> None:
    certificate = identity.install(answer, now_s)
    days = (certificate.not_valid_after_utc - datetime.fromtimestamp(now_s, UTC)).days
    _say(f"{answer.node} is enrolled in {answer.community}; its certificate is valid for {days} days, then renew: commonwatt-edge renew")
    if config is None:
        sys.stdout.write(configuration_sections(identity, Path.cwd()))
    else:
        add_sections(config, identity)
        _say(f"{config}: has this identity and broker")


def configuration_sections(identity: Identity, folder: Path) -> str:
    """The sections `identity` and `broker` for a configuration that lies in `folder`, as TOML."""
    community = identity.community()
    here = Path(os.path.relpath(identity.current.parent.resolve(), folder.resolve())) / "current"
    return (
        f'[identity]\ncommunity = "{community.community}"\nnode = "{community.node}"\n'
        f'key_file = "{here}/signing.key"\ncoordinator_keys = ["{here}/coordinator.pub"]\n\n'
        f'[broker]\nhost = "{community.host}"\nport = {community.port}\n'
        f'tls = {{ ca_file = "{here}/authority.pem", cert_file = "{here}/tls.pem", key_file = "{here}/tls.key" }}\n'
    )


def add_sections(config: Path, identity: Identity) -> None:
    """Append both sections to a configuration that has neither; one that has the same ones stays. Raises `ConfigurationError`."""
    sections = configuration_sections(identity, config.resolve().parent)
    data = read_any(config) if config.exists() else b""
    try:
        known = decode_toml(data, dict[str, Any])
        wanted = decode_toml(sections.encode("utf-8"), dict[str, Any])
    except DocumentRefused as refusal:
        raise ConfigurationError(f"{config}: {refusal}") from refusal
    present = {name: known[name] for name in wanted if name in known}
    if present == wanted:
        return
    if len(present) > 0:
        raise ConfigurationError(f"{config}: has another {' and '.join(present)} already; take out the old - at $.{next(iter(present))}")
    before = data.rstrip() + b"\n\n" if len(data.strip()) > 0 else b""
    write_private(config, before + sections.encode("utf-8"))


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
