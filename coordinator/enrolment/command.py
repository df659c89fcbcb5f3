"""`commonwatt-coordinator init`, `enrol`, `accept`, `revoke`, `renew` and `members`. A shell: parsing, words, and what is told the broker.

Documents go to files or, with `--out -`, to standard output; what is said to a person goes to standard error then.
"""

from __future__ import annotations

import argparse
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from coordinator.enrolment import admission
from coordinator.enrolment import members as rules
from coordinator.enrolment.broker_control import broker_pid, cut_off, own_settings, reload_brokers
from coordinator.enrolment.folder import Folder
from coordinator.enrolment.founding import ADMINISTRATOR, Plan, broker_user_here, found
from coordinator.enrolment.members import Connection, Member, Role, State
from coordinator.errors import EnrolmentError
from coordinator.network.cases import CASES
from protocols.clock import SystemClock
from protocols.enrolment import HostName, Request, decode, encode, fingerprint, read_certificate
from protocols.files import STANDARD_STREAM, read_any, write_private
from protocols.units import Identifier, LimitW

EXIT_DONE, EXIT_NO = 0, 1
DAY_S: Final = 86400.0
Value = TypeVar("Value")
THIS_MACHINE: Final = ("localhost", "127.0.0.1")


def init(arguments: argparse.Namespace) -> int:
    """Make a community."""
    community, administrator = _identifier(arguments.community, "--community"), _identifier(arguments.administrator, "--administrator")
    if arguments.network not in CASES and not Path(arguments.network).exists():
        raise EnrolmentError(f"--network {arguments.network}: no such file or folder, and the built-in cases are {', '.join(CASES)}")
    hosts = tuple(_checked(host, HostName, "--host") for host in arguments.host or (socket.gethostname(),))
    plan = Plan(
        community=community,
        network=arguments.network,
        hosts=tuple(dict.fromkeys((*hosts, *THIS_MACHINE))),
        port=arguments.port,
        websockets_port=arguments.websockets_port,
        page_port=arguments.page_port,
        administrator=administrator,
        address=arguments.address,
        broker_user=broker_user_here() if arguments.broker_user is None else arguments.broker_user,
        passphrase_file=arguments.passphrase_file,
    )
    folder = found(arguments.folder, plan, SystemClock().now_s())
    authority = read_certificate(read_any(folder.authority_certificate).decode("ascii"), "authority")
    kept = folder.root / folder.settings().passphrase_file
    sys.stdout.write(
        f"community {community} in {folder.root}; nodes reach its broker at {hosts[0]}:{plan.port}\n"
        f"authority {fingerprint(authority)}\n"
        f"  broker         mosquitto -c {folder.broker / 'mosquitto.conf'}\n"
        f"  for browsers   mosquitto -c {folder.broker / 'page.conf'}\n"
        f"  the page       commonwatt-coordinator page --config {folder.configuration}\n"
        f"  household      commonwatt-coordinator enrol NODE --folder {arguments.folder} --connection NAME\n"
        f"  coordinator    commonwatt-coordinator run --config {folder.configuration}   (once a household is enrolled)\n"
        f"  administrator  {folder.administrators / administrator}.p12, for a browser; its passphrase lies beside it, hand it over apart\n"
        f"The passphrase of the authority's key is in {kept}. Keep it elsewhere, and give it with --passphrase-file.\n"
    )
    return EXIT_DONE


def enrol(arguments: argparse.Namespace) -> int:
    """Issue a bundle."""
    node = _identifier(arguments.node, "NODE")
    connection = Connection(
        name=_checked(arguments.connection, str, "--connection"),
        import_rating_w=_checked(arguments.import_rating_w, LimitW, "--import-rating-w"),
        export_rating_w=_checked(arguments.export_rating_w, LimitW, "--export-rating-w"),
    )
    bundle = admission.issue_bundle(
        Folder(arguments.folder), node, connection, now_s=SystemClock().now_s(), valid_s=arguments.valid_hours * 3600.0
    )
    path = Path(f"{node}.bundle") if arguments.out is None else arguments.out
    _give(encode(bundle), path)
    _say(f"bundle of {node}: works once, until {_day(bundle.expires_s)} UTC; a secret until then")
    if path != STANDARD_STREAM:
        _say(f"take {path} to the controller: commonwatt-edge enrol {path.name}")
    return EXIT_DONE


def accept(arguments: argparse.Namespace) -> int:
    """Sign a request."""
    folder = Folder(arguments.folder)
    request = decode(read_any(arguments.request), Request)
    before = folder.members()
    answer = admission.accept(
        folder,
        request,
        now_s=SystemClock().now_s(),
        passphrase_file=arguments.passphrase_file,
        days=arguments.days,
    )
    reload_brokers(folder)
    through_pipe = arguments.request == STANDARD_STREAM
    path = arguments.out if arguments.out is not None else STANDARD_STREAM if through_pipe else Path(f"{answer.node}.answer")
    _give(encode(answer), path)
    known = before.get(answer.node)
    if known is not None and known.state is State.ENROLLED:
        _say(f"{answer.node} is renewed; what it had works for {rules.OVERLAP_S / DAY_S:.0f} days more")
    else:
        _say(f"{answer.node} is enrolled; a coordinator that runs takes it in when it is restarted")
    if path != STANDARD_STREAM:
        _say(f"take {path} to the controller: commonwatt-edge enrol {path.name}")
    return EXIT_DONE


def revoke(arguments: argparse.Namespace) -> int:
    """Take a member out, now."""
    folder = Folder(arguments.folder)
    admission.revoke(folder, arguments.name, now_s=SystemClock().now_s(), passphrase_file=arguments.passphrase_file)
    if reload_brokers(folder):
        cut = cut_off(folder, own_settings(folder), arguments.name)
        text = f"{arguments.name} is revoked: silenced, refused from now on, {cut} connection(s) or session(s) ended"
    else:
        text = f"{arguments.name} is revoked; no broker runs here: one elsewhere needs the new files of {folder.broker} and SIGHUP"
    sys.stdout.write(
        f"{text}\nIts section stays in {folder.configuration.name}: take it out and restart, and its connection counts as passive.\n"
    )
    return EXIT_DONE


def renew(arguments: argparse.Namespace) -> int:
    """New key and certificate of the brokers, the coordinator or an administrator."""
    if arguments.name not in ("broker", "page", "coordinator"):
        short = arguments.name.removeprefix(ADMINISTRATOR)
        if short == arguments.name:
            raise EnrolmentError(
                f"{arguments.name}: expected broker, page, coordinator or {ADMINISTRATOR}NAME; a node renews itself: commonwatt-edge renew"
            )
        _identifier(short, "NAME")
    folder = Folder(arguments.folder)
    written = admission.renew_own(folder, arguments.name, now_s=SystemClock().now_s(), passphrase_file=arguments.passphrase_file)
    reload_brokers(folder)
    sys.stdout.write(f"{arguments.name} is renewed: {', '.join(map(str, written))}\n")
    return EXIT_DONE


def page_token(arguments: argparse.Namespace) -> int:
    """Give a member a token for the page, or take it back."""
    folder = Folder(arguments.folder)
    if arguments.remove:
        admission.take_page_token(folder, arguments.name)
        reload_brokers(folder)
        sys.stdout.write(f"{arguments.name} has no token for the page any more\n")
        return EXIT_DONE
    token = admission.issue_page_token(folder, arguments.name)
    reload_brokers(folder)
    _say(f"token of {arguments.name} for the page; it is shown once, and an older one is void. Name and token log in:")
    sys.stdout.write(f"{token}\n")
    return EXIT_DONE


def members(arguments: argparse.Namespace) -> int:
    """List who belongs, and warn of what expires; the exit status is 1 with a warning."""
    folder, now_s = Folder(arguments.folder), SystemClock().now_s()
    known = folder.members()
    warnings = rules.expiry(known, now_s, arguments.warn_days * DAY_S)
    if arguments.json:
        rows = [_row(member, now_s, warnings.get(member.name)) for member in known.members]
        document = {"community": known.community, "broker_pid": broker_pid(folder), "members": rows}
        sys.stdout.write(msgspec.json.encode(document).decode("utf-8") + "\n")
    else:
        width = max((len(member.name) for member in known.members), default=4)
        for member in known.members:
            newest = member.newest()
            until = _day(newest.expires_s) if newest is not None else "-"
            warning = warnings.get(member.name, "")
            sys.stdout.write(f"{member.name:<{width}}  {member.role:<13}  {member.state:<8}  {until:<16}  {warning}".rstrip() + "\n")
    return EXIT_NO if len(warnings) > 0 else EXIT_DONE


def _row(member: Member, now_s: float, warning: str | None) -> dict[str, str | float | None]:
    newest = member.newest()
    return {
        "name": member.name,
        "role": member.role.value,
        "state": member.state.value,
        "connection": None if member.role is not Role.NODE or member.connection is None else member.connection.name,
        "expires_s": None if newest is None else newest.expires_s,
        "warning": warning,
    }


def _give(data: bytes, path: Path) -> None:
    if path == STANDARD_STREAM:
        sys.stdout.write(data.decode("ascii"))
        sys.stdout.flush()
    else:
        write_private(path, data)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def _day(time_s: float) -> str:
    return f"{datetime.fromtimestamp(time_s, UTC):%Y-%m-%d %H:%M}"


def _identifier(text: str, where: str) -> str:
    return _checked(text, Identifier, where)


def _checked(value: Value, kind: object, where: str) -> Value:
    try:
        msgspec.convert(value, type=kind)
    except msgspec.ValidationError as error:
        raise EnrolmentError(f"{where} {value!r}: {error}") from error
    return value
