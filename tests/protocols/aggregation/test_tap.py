"""A tap on the leader and the operator's key together: single reports, opened, are noise.

Envelopes are opened with the leader's key and ciphertexts decrypted with the operator's, which is more than any one role can do. What is
left are the pads. The modulus has 1024 bits: slots and pads are the same at every size. Expected: every slot uniform modulo 2^w
(Kolmogorov-Smirnov at 1 %, critical value 1.628 / sqrt(n), Massey 1951, table 1) and uncorrelated with the truth.
"""

from __future__ import annotations

import numpy as np
import pytest

from protocols.aggregation import packing
from protocols.aggregation.messages import unseal_report
from tests.protocols.aggregation.community import Community


def tapped(slots: int, values: int = 24) -> tuple[np.ndarray, np.ndarray, int]:  # type: ignore[type-arg]
    """(slots as decrypted, true values, modulus) of single households over as many rounds as it takes."""
    community = Community(12, values=values, seed=5)
    layout = community.group.layout
    seen, truth = [], []
    hours = np.arange(values)
    number = 0
    while sum(map(len, seen)) < slots:
        number += 1
        announce = community.announce(number)
        for index, name in enumerate(community.names):
            curve = 3000.0 * np.sin((hours + index) / 4.0) + 500.0 * community.rng.gauss(0.0, 1.0)
            plan = [int(watts) for watts in curve]
            sealed, _ = community.members[name].report(announce, plan, community.randomisers())
            report = unseal_report(sealed, announce.round_name, community.envelopes["h000"])
            plaintexts = [community.private_key.raw_decrypt(int.from_bytes(data, "big")) for data in report.ciphertexts]
            seen.append(packing.unpack(plaintexts, layout.slots, community.group.chunk)[:values])
            truth.append(np.array(plan))
    return np.concatenate(seen)[:slots], np.concatenate(truth)[:slots], layout.mask + 1


def looks_uniform(values: np.ndarray, modulus: int) -> float:  # type: ignore[type-arg]
    """The Kolmogorov-Smirnov statistic over its critical value at 1 %."""
    ordered = np.sort(values.astype(float)) / modulus
    steps = np.arange(len(ordered) + 1) / len(ordered)
    distance = max(np.max(steps[1:] - ordered), np.max(ordered - steps[:-1]))
    return float(distance * np.sqrt(len(ordered)) / 1.628)


@pytest.mark.parametrize("slots", [4000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_an_opened_report_is_noise(slots: int) -> None:
    seen, truth, modulus = tapped(slots)
    bound = 0.02 * np.sqrt(20_000 / slots)
    assert looks_uniform(seen, modulus) < 1.0
    assert abs(np.corrcoef(seen.astype(float), truth.astype(float))[0, 1]) < bound
    centred = np.where(seen >= modulus // 2, seen.astype(np.int64) - modulus, seen)
    assert abs(np.corrcoef(centred.astype(float), truth.astype(float))[0, 1]) < bound


def test_the_tap_would_see_reports_without_pads() -> None:
    """The statistics bite: the same curves without pads are neither uniform nor uncorrelated."""
    _, truth, modulus = tapped(2000)
    plain = truth % modulus
    assert looks_uniform(plain, modulus) > 10.0
    centred = np.where(plain >= modulus // 2, plain - modulus, plain)
    assert np.corrcoef(centred.astype(float), truth.astype(float))[0, 1] > 0.99
