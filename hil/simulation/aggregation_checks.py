"""Named checkers of the aggregation. They see more than anybody in the round: every value, every opening, every decryption.

- `sums_exact_or_refused`: what the operator accepts is the exact sum, and the exact head-count, of the reports that were summed;
- `no_plaintext`: nothing that the operator decrypts, and no difference of two of its decryptions, is one household's report;
- `nobody_unmasked_alone`: nobody reports to too small a roster; seeds leave an honest member only for a report it made, before the
  operator's answer, towards a list that does not name it, grows, has decoys in batches and not too many, and leaves a large enough group;
  and leader and operator together cannot open any report that an honest leader left out;
- `nothing_used_twice`: no randomiser and no pad masks two different reports;
- `one_sum_per_round`: the operator decrypts one aggregate for each round, whatever is sent to it, and also after a restart;
- `lies_are_provable`: where a lying leader's aggregate is accepted and is no honest sum, an audit or two of its own statements prove it;
- `rounds_go_on`: an honest leader's sum opens unless a member poisons it, and once faults stop, a round sums everybody.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np
from msgspec import Struct, field

from protocols.aggregation import packing
from protocols.aggregation.differencing import BATCH
from protocols.aggregation.group import Group
from protocols.aggregation.leader import LeaderRound
from protocols.aggregation.member import DECOYS_MAX, Opening
from protocols.aggregation.messages import Announce, Drops
from protocols.aggregation.operator import Sums
from protocols.aggregation.packing import Layout, Slots, Values
from protocols.aggregation.pads import PadGraph

CHECKERS: Final = (
    "sums_exact_or_refused",
    "no_plaintext",
    "nobody_unmasked_alone",
    "nothing_used_twice",
    "one_sum_per_round",
    "lies_are_provable",
    "rounds_go_on",
)
REMEMBERED: Final = 12


class Claim(Struct, frozen=True, kw_only=True):
    """What an aggregate was made of, as only the simulation knows. `honest`: its leader followed the rules; `proof`: why it is provable."""

    summed: tuple[str, ...]
    honest: bool
    proof: str | None = None


class Checks(Struct):
    """Counts and violations of one run."""

    layout: Layout
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CHECKERS, 0))
    violations: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in CHECKERS})
    vectors: dict[tuple[str, str], Slots] = field(default_factory=dict)
    owners: dict[bytes, str] = field(default_factory=dict)
    used: dict[tuple[str, bytes], bytes] = field(default_factory=dict)
    answered: set[str] = field(default_factory=set)
    decrypted: deque[Slots] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    lists: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    excused: bool = False

    def check(self, name: str, holds: bool, detail: str) -> None:
        """Count one look of a checker; keep the first violations in words."""
        self.counts[name] += 1
        if not holds and len(self.violations[name]) < 5:
            self.violations[name].append(detail)

    def reported(self, opening: Opening, digest: bytes, slots: Slots, members_min: int) -> None:
        """A member made a report: its randomisers and pads must be new, or the report the same as before."""
        name, round_name = opening.member, opening.announce.round_name
        large = len(opening.announce.roster) >= members_min
        self.check("nobody_unmasked_alone", large, f"{name} reported in round {round_name} to a roster below the smallest group")
        values = (slots[: self.layout.values].astype(np.int64) & self.layout.mask).astype(np.uint32)
        self.vectors[round_name, name] = slots
        self.owners[values.tobytes()] = f"{name} in round {round_name}"
        seeds = [("randomiser", seed) for seed in opening.exponent_seeds]
        for what, seed in [*seeds, *((f"pad of {name}", seed) for _, seed in opening.pad_seeds)]:
            same = self.used.setdefault((what, seed), digest) == digest
            self.check("nothing_used_twice", same, f"{what} in two reports, again by {name} in round {round_name}")

    def revealed(self, name: str, announce: Announce, drops: Drops, members_min: int, *, reported: bool, ended: bool) -> None:
        """An honest member let seeds go."""
        key = (name, announce.round_name)
        left_out, before = drops.left_out, self.lists.get((name, announce.round_name), frozenset())
        self.lists[key] = left_out
        rules = {
            "without a report of its own": reported and drops.round_name == announce.round_name,
            "for a list that names itself": name not in left_out,
            "for a list that shrank": before <= left_out,
            "for another leader": drops.leader == announce.leader,
            "for a list with too many decoys": len(drops.decoys) <= DECOYS_MAX,
            "for decoys that hide nobody": not 0 < len(drops.decoys) < BATCH,
            "after the operator's answer": not ended,
            "below the smallest group": len(announce.roster) - len(left_out) >= members_min,
        }
        for words, holds in rules.items():
            self.check("nobody_unmasked_alone", holds, f"{name} revealed in round {announce.round_name} {words}")

    def pooled(self, round_: LeaderRound) -> None:
        """An honest leader's round has ended: which single report could it open, together with the operator's key?"""
        graph = PadGraph(round_.announce.roster, bytes.fromhex(round_.announce.beacon))
        known = {(member, peer) for member, seeds in round_._seeds.items() for peer in seeds}
        for name in round_.reported:
            pads = graph.neighbours(name)
            open_ = bool(pads) and all((name, peer) in known or (peer, name) in known for peer in pads)
            self.check("nobody_unmasked_alone", not open_, f"round {round_.announce.round_name}: leader and operator could open {name}")

    def decryption(self, slots: Slots) -> None:
        """The operator saw this plaintext. What a lying leader unmasked in a way that can be proved is not promised to be hidden."""
        if self.excused:
            return
        values = slots[: self.layout.values].astype(np.int64)
        owner = self.owners.get(self._reduced(values))
        self.check("no_plaintext", owner is None, f"the operator decrypted the report of {owner}")
        for earlier in self.decrypted:
            for difference in (values - earlier, earlier - values):
                owner = self.owners.get(self._reduced(difference))
                self.check("no_plaintext", owner is None, f"two decryptions differ by the report of {owner}")
        self.decrypted.append(values.astype(np.uint32))

    def accepted(self, sums: Sums, claim: Claim) -> None:
        """The operator took an aggregate."""
        self.check("one_sum_per_round", sums.round_name not in self.answered, f"round {sums.round_name} was summed twice")
        self.answered.add(sums.round_name)
        if not claim.honest and claim.proof is not None:
            self.check("lies_are_provable", True, "")
            return
        total = np.zeros(self.layout.slots, dtype=np.int64)
        for name in claim.summed:
            total += self.vectors[sums.round_name, name].astype(np.int64)
        expected = packing.centred(self.layout, total[: self.layout.values])
        exact = sums.values.tolist() == expected.tolist() and sums.count == len(claim.summed)
        checker = "sums_exact_or_refused" if claim.honest else "lies_are_provable"
        self.check(checker, exact, f"round {sums.round_name}: a wrong sum of {len(claim.summed)} reports was accepted")

    def _reduced(self, values: Values) -> bytes:
        return (values.astype(np.int64) & self.layout.mask).astype(np.uint32).tobytes()


def slots_of(group: Group, values: list[int], beacon: str) -> Slots:
    """What an honest report of these values encodes, without pads."""
    return packing.encode(group.layout, values, packing.checksum_coefficients(group.layout, bytes.fromhex(beacon)))
