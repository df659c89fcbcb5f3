"""No key, seed or pad in logs, representations or pickles: whole rounds with recovery, audits and openings, at the most talkative level."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from msgspec import Struct

from coordinator.aggregation.settings import AggregationSection as DeskSection
from edge.leadership.settings import AggregationSection
from hil.simulation.street import Street, operator_key
from protocols.aggregation.messages import Reveal
from protocols.aggregation.settlement import disclose

RAW = (serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption())


def forms(secret: bytes) -> list[str]:
    """How a secret of bytes may show in a text."""
    number = int.from_bytes(secret, "big")
    return [secret.hex(), repr(secret)[2:-1], str(number), format(number, "x"), str(list(secret))[1:-1]]


async def lived(folder: Path) -> Street:
    """A street in which somebody is missing, everybody audits and every report is opened."""
    settings = AggregationSection(
        enabled=True, period_s=60.0, flexibility_every=1, collect_s=2.0, recover_s=1.0, resend_s=1.0, pool_entries=2, min_key_bits=1024,
        members_min=3, audit_share=1.0, settlement_share_max=1.0,
    )  # fmt: skip
    street = Street(folder, 14, aggregation=settings, desk=DeskSection(enabled=True, members_min=3, settlement_share=1.0))
    await street.start()
    street.run(14.0)
    street.freeze(next(name for name in street.names if name != street.leader()))
    street.run(60.0)
    street.desk._kept.epoch_s = -1e9
    street.run(4.0)
    assert street.desk.settlement.settled
    return street


def secrets_of(street: Street) -> dict[str, list[str]]:
    """Every long-lived secret, and the seeds of the newest reports, in all forms."""
    found = {"operator's prime": [operator_key()._secret.p, operator_key()._secret.q, str(int(operator_key()._secret.p, 16))]}
    for name in street.names:
        member = street.members[name]
        found[f"{name} pad key"] = forms(member._secrets.pads._private_key.private_bytes(*RAW))
        found[f"{name} envelope key"] = forms(member._secrets.envelope_key.private_bytes(*RAW))
        found[f"{name} signing key"] = forms(street.keys[name].private_bytes(*RAW))
        for opening in openings(street, name):
            found[f"{name} randomisers"] = [form for seed in opening.exponent_seeds for form in forms(seed)]
            found[f"{name} pads"] = [form for _, seed in opening.pad_seeds for form in forms(seed)]
            found[f"{name} values"] = [", ".join(map(str, opening.values[:3])), ",".join(map(str, opening.values[:3]))]
    return found


def openings(street: Street, name: str) -> list[Any]:
    return [member._round.opening for _, member in street.members[name].member._standings.values() if member._round is not None]


async def test_no_secret_is_logged_or_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    street = await lived(tmp_path)
    shown = [caplog.text, repr(street.desk.settlement.settled), repr(street.desk.settlement.epochs), repr(street.desk.keys)]
    shown += [repr(street.desk.events), repr(street.desk.settlement.asking)]
    for member in street.members.values():
        parts = [member, member._secrets, member.member, member.leader, member.election, member.accountability, member._encryption._pool]
        shown += [repr(part) for part in parts] + [repr(getattr(member, field, "")) for field in ("_standing", "_signer")]
        held = member.accountability
        shown += [repr(vars(part)) for part in (member.member, member.leader, held.auditor, held.archive, held.opener)]
    text = "\n".join(shown)
    assert len(caplog.records) > 10 and "leads" in caplog.text
    for what, secret_forms in secrets_of(street).items():
        assert not [form for form in secret_forms if form in text], what


async def test_secret_values_are_neither_shown_nor_pickled(tmp_path: Path) -> None:
    street = await lived(tmp_path)
    member = street.members[street.leader()]
    [opening] = openings(street, "h000")[:1]
    randomiser = member._encryption.randomisers(member._standing)[0]  # type: ignore[arg-type]
    keys = member._secrets, member._secrets.pads, member._encryption._pool, member._voice._signer, operator_key()
    for secret in (opening, randomiser, *keys):
        with pytest.raises(TypeError):
            pickle.dumps(secret)
    reveal = Reveal("1:1", "h000", opening.pad_seeds, b"s" * 64)
    disclosure = disclose(opening, b"", street.keys["h000"])
    kept = member.accountability.opener._records.kept(opening.announce.round_name)
    shown: list[Struct | None] = [opening, randomiser, reveal, disclosure, kept]
    text = "\n".join(repr(one) for one in shown)
    for seed in (*opening.exponent_seeds, *(seed for _, seed in opening.pad_seeds), randomiser.seed):
        assert not [form for form in forms(seed) if form in text]
    assert str(opening.values[0]) not in text.replace(opening.announce.round_name, "")
