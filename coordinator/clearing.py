"""`commonwatt-coordinator clear NETWORK PARTICIPANTS`: one clearing of one mechanism, from two files. A shell.

PARTICIPANTS is TOML: `step_s`, the prices `retail_per_kwh` and `feed_in_per_kwh` (one for each interval), `loss_per_kwh`, and for each
`[[participants]]` its `name`, `bus`, profiles `fixed_w` and `renewable_w`, and where it has them `storage`, `generator` and `flexible`
loads, with the fields of the types below. For `dfe` also `connection_w` and `margin_w`, how far net import may stray from its plan.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta, Struct

from coordinator.envelopes.values import Limits
from coordinator.errors import ConfigError
from coordinator.market.assembly import build_mechanism, loss_form
from coordinator.mechanisms.conversation import Talk, converse
from coordinator.mechanisms.dfe.community import EnergyCommunity
from coordinator.mechanisms.dfe.feeder import OperatedFeeder, with_communities
from coordinator.mechanisms.dfe.negotiation import Agreement, EnvelopeNegotiation
from coordinator.mechanisms.dfe.negotiation import Tariff as OperatorTariff
from coordinator.mechanisms.p2p import community as p2p
from coordinator.mechanisms.p2p.trades import trades_w
from coordinator.mechanisms.signals import FloatArray
from coordinator.network.cases import load
from coordinator.network.model import Network
from coordinator.network.validate import require_valid
from coordinator.powerflow.balanced import balanced_feeder
from coordinator.powerflow.unbalanced import unbalanced_feeder
from protocols.documents import DocumentRefused, decode_toml

EXIT_DONE, EXIT_NO = 0, 1
MOST_AT_ONCE = 10
"""`dfe` tries every corner of the box of all participants by power flow: two to their number."""

WEIGHT_PER_KWH_W = {"p2p": 1e-6, "disco": 1e-6, "dfe": 1e-6}
TOLERANCE_FRAC, TOLERANCE_W, TOLERANCE_PER_KWH, CLEARANCE_PU = 1e-3, 1000.0, 1e-3, 1e-4
WIDTH_PER_KWH = 0.002

Watts = Annotated[tuple[float, ...], Meta(min_length=1, max_length=2000)]
Prices = Annotated[tuple[float, ...], Meta(min_length=1, max_length=2000)]
Name = Annotated[str, Meta(min_length=1, max_length=64)]


class Part(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every part of the file has: unknown keys are refused."""


class StoragePart(Part, frozen=True, kw_only=True):
    """A battery; its charge returns to where it began."""

    capacity_wh: float
    power_w: float
    efficiency_frac: float = 0.95
    initial_frac: float = 0.5
    degradation_per_kwh: float = 0.02


class GeneratorPart(Part, frozen=True, kw_only=True):
    """Dispatchable generation whose cost per kWh rises with its power."""

    max_w: float
    first_per_kwh: float
    rise_per_kwh_kw: float = 1e-4


class FlexiblePart(Part, frozen=True, kw_only=True):
    """Energy that must be taken, at up to `max_w` in each interval."""

    energy_wh: float
    max_w: Watts


class ParticipantPart(Part, frozen=True, kw_only=True):
    """One participant at one bus."""

    name: Name
    bus: Name
    fixed_w: Watts
    renewable_w: Watts
    storage: StoragePart = StoragePart(capacity_wh=0.0, power_w=0.0)
    generator: GeneratorPart = GeneratorPart(max_w=0.0, first_per_kwh=0.0)
    flexible: tuple[FlexiblePart, ...] = ()
    connection_w: float = 1e6
    margin_w: float = 0.0


class ParticipantsFile(Part, frozen=True, kw_only=True):
    """The whole file; see the module."""

    step_s: Annotated[float, Meta(ge=60.0, le=86400.0)]
    retail_per_kwh: Prices
    feed_in_per_kwh: Prices
    loss_per_kwh: Annotated[float, Meta(ge=0.0, le=100.0)] = 0.1
    participants: Annotated[tuple[ParticipantPart, ...], Meta(min_length=2, max_length=1000)]


class Cleared(Struct, frozen=True, kw_only=True):
    """What was cleared for one participant, interval by interval; limits are None where the mechanism agrees none."""

    name: str
    bus: str
    net_w: tuple[float, ...]
    price_per_kwh: tuple[float, ...]
    sold_w: tuple[float, ...]
    bought_w: tuple[float, ...]
    import_limit_w: tuple[float, ...] | None = None
    export_limit_w: tuple[float, ...] | None = None


class ClearedDay(Struct, frozen=True, kw_only=True):
    """One clearing. `participants` is empty where nothing was agreed within the rounds."""

    mechanism: str
    network: str
    settled: bool
    rounds: int
    messages: int
    left_out: dict[str, str]
    step_s: float
    participants: tuple[Cleared, ...]
    duration_s: float


def clear(arguments: argparse.Namespace) -> int:
    """Clear once and print it; 1 where nothing was agreed within the rounds."""
    started_s = time.perf_counter()
    network = load(arguments.network, vmin_pu=arguments.vmin_pu, vmax_pu=arguments.vmax_pu)
    require_valid(network, require_radial=True)
    wanted = read_participants(arguments.participants)
    unknown = [item for item in wanted.participants if item.bus not in network.bus_index]
    if unknown:
        raise ConfigError(f"{arguments.participants}: {unknown[0].name} is at bus {unknown[0].bus!r}, which {network.name} does not have")

    def say(words: str) -> None:
        sys.stderr.write(f"{time.perf_counter() - started_s:8.2f} s  {words}\n")

    hold = _dfe if arguments.mechanism == "dfe" else _by_net_load
    talk = hold(arguments.mechanism, network, wanted, arguments.max_rounds, say)
    outcome: Any = talk.outcome
    stayed = [item for item in wanted.participants if item.name not in talk.left_out]
    day = ClearedDay(
        mechanism=arguments.mechanism,
        network=network.name,
        settled=outcome is not None,
        rounds=talk.rounds,
        messages=talk.messages,
        left_out=dict(talk.left_out),
        step_s=wanted.step_s,
        participants=() if outcome is None else _cleared(stayed, outcome, trades=arguments.mechanism != "disco"),
        duration_s=time.perf_counter() - started_s,
    )
    if arguments.json:
        sys.stdout.write(msgspec.json.encode(day).decode() + "\n")
    else:
        sys.stdout.write("\n".join(_lines(day)) + "\n")
    return EXIT_DONE if day.settled else EXIT_NO


def read_participants(path: Path) -> ParticipantsFile:
    """Decode and check the file; ConfigError with one line."""
    try:
        found = decode_toml(path.read_bytes(), ParticipantsFile)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error} - at $") from error
    except DocumentRefused as refusal:
        raise ConfigError(f"{path}: {refusal}") from refusal
    intervals = len(found.retail_per_kwh)
    if len(found.feed_in_per_kwh) != intervals:
        raise ConfigError(f"{path}: {intervals} retail prices and {len(found.feed_in_per_kwh)} feed-in prices - at $.feed_in_per_kwh")
    names = [item.name for item in found.participants]
    for place, item in enumerate(found.participants):
        where = f"at $.participants[{place}]"
        if names.index(item.name) != place:
            raise ConfigError(f"{path}: participant {item.name!r} is named twice - {where}.name")
        rows = {"fixed_w": item.fixed_w, "renewable_w": item.renewable_w}
        rows |= {f"flexible[{number}].max_w": part.max_w for number, part in enumerate(item.flexible)}
        for key, row in rows.items():
            if len(row) != intervals:
                raise ConfigError(f"{path}: {len(row)} values, expected {intervals}, one for each price - {where}.{key}")
    return found


def _by_net_load(
    mechanism: str, network: Network, wanted: ParticipantsFile, max_rounds: int, say: Callable[[str], None]
) -> Talk[Any]:
    """Hold a mechanism whose participants answer with their net load."""
    people = wanted.participants
    widened = with_communities(network, [item.name for item in people], [item.bus for item in people])
    feeder = balanced_feeder(widened) if widened.is_balanced else unbalanced_feeder(widened)
    tariff = p2p.Tariff(retail_per_kwh=np.array(wanted.retail_per_kwh), feed_in_per_kwh=np.array(wanted.feed_in_per_kwh))
    held = build_mechanism(
        mechanism,
        tuple(item.name for item in people),
        tariff,
        wanted.step_s,
        loss_form(feeder)[-len(people) :, -len(people) :],
        loss_per_kwh=wanted.loss_per_kwh,
        weight=WEIGHT_PER_KWH_W[mechanism],
        tolerance_frac=TOLERANCE_FRAC,
        tolerance_w=TOLERANCE_W,
    )
    responders = {item.name: p2p.CommunityAtBus(_community(item, wanted.step_s)) for item in people}
    return converse(held, responders, max_rounds=max_rounds, say=say)


def _dfe(mechanism: str, network: Network, wanted: ParticipantsFile, max_rounds: int, say: Callable[[str], None]) -> Talk[Any]:
    """Hold the negotiation of envelopes; the network's own loads stand at their base in every interval."""
    people, intervals = wanted.participants, len(wanted.retail_per_kwh)
    if not network.is_balanced:
        raise ConfigError(f"mechanism {mechanism} needs a balanced network, and {network.name} has phases of its own")
    if len(people) > MOST_AT_ONCE:
        raise ConfigError(f"mechanism {mechanism} tries every corner of at most {MOST_AT_ONCE} participants, got {len(people)}")
    base_va = network.base_power_w() + 1j * network.base_reactive_var()
    negotiation = EnvelopeNegotiation(
        names=tuple(item.name for item in people),
        feeder=OperatedFeeder(
            network=with_communities(network, [item.name for item in people], [item.bus for item in people]),
            load_va=np.repeat(base_va[:, None], intervals, axis=1),
            limits=Limits(),
        ),
        tariff=OperatorTariff(buy_per_kwh=np.array(wanted.retail_per_kwh), sell_per_kwh=np.array(wanted.feed_in_per_kwh)),
        loss_per_kwh=wanted.loss_per_kwh,
        weight=WEIGHT_PER_KWH_W[mechanism],
        tolerance_w=TOLERANCE_W,
        tolerance_per_kwh=TOLERANCE_PER_KWH,
        clearance_pu=CLEARANCE_PU,
    )
    return converse(negotiation, _energy_communities(wanted), max_rounds=max_rounds, say=say)


def _energy_communities(wanted: ParticipantsFile) -> Mapping[str, EnergyCommunity]:
    intervals = len(wanted.retail_per_kwh)
    return {
        item.name: EnergyCommunity(
            name=item.name,
            bus=item.bus,
            step_s=wanted.step_s,
            connection_w=item.connection_w,
            fixed_load_w=np.array(item.fixed_w),
            flexible_max_w=np.sum([part.max_w for part in item.flexible], axis=0) + np.zeros(intervals),
            flexible_wh=sum(part.energy_wh for part in item.flexible),
            sun_w=np.array(item.renewable_w),
            wind_w=np.zeros(intervals),
            generator_w=item.generator.max_w,
            generator_per_kwh=item.generator.first_per_kwh,
            generator_per_kwh_kw=0.5 * item.generator.rise_per_kwh_kw,
            storage_wh=item.storage.capacity_wh,
            storage_w=item.storage.power_w,
            storage_efficiency_frac=item.storage.efficiency_frac,
            storage_initial_frac=item.storage.initial_frac,
            wear_per_kwh=item.storage.degradation_per_kwh,
            unserved_per_kwh=p2p.DEFAULT_LOST_LOAD_PER_KWH,
            width_per_kwh=WIDTH_PER_KWH,
            margin_above_w=np.full(intervals, item.margin_w),
            margin_below_w=np.full(intervals, item.margin_w),
        )
        for item in wanted.participants
    }


def _community(item: ParticipantPart, step_s: float) -> p2p.Community:
    return p2p.Community(
        name=item.name,
        step_s=step_s,
        fixed_w=np.array(item.fixed_w),
        renewable_w=np.array(item.renewable_w),
        generator=p2p.Generator(
            max_w=item.generator.max_w, first_per_kwh=item.generator.first_per_kwh, rise_per_kwh_kw=item.generator.rise_per_kwh_kw
        ),
        storage=p2p.Storage(
            capacity_wh=item.storage.capacity_wh,
            power_w=item.storage.power_w,
            efficiency_frac=item.storage.efficiency_frac,
            initial_frac=item.storage.initial_frac,
            degradation_per_kwh=item.storage.degradation_per_kwh,
        ),
        flexible=tuple(p2p.FlexibleLoad(energy_wh=part.energy_wh, max_w=np.array(part.max_w)) for part in item.flexible),
    )


def _cleared(people: list[ParticipantPart], outcome: Any, *, trades: bool) -> tuple[Cleared, ...]:
    sold = trades_w(outcome.net_w) if trades else np.zeros((len(people), *outcome.net_w.shape))
    limits = (outcome.import_limit_w, outcome.export_limit_w) if isinstance(outcome, Agreement) else None
    return tuple(
        Cleared(
            name=item.name,
            bus=item.bus,
            net_w=_plain(outcome.net_w[place]),
            price_per_kwh=_plain(outcome.price_per_kwh[place]),
            sold_w=_plain(sold[place].sum(axis=0)),
            bought_w=_plain(sold[:, place].sum(axis=0)),
            import_limit_w=None if limits is None else _plain(limits[0][place]),
            export_limit_w=None if limits is None else _plain(limits[1][place]),
        )
        for place, item in enumerate(people)
    )


def _plain(values: FloatArray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _lines(day: ClearedDay) -> list[str]:
    kwh = day.step_s / 3.6e6
    words = [
        f"mechanism    {day.mechanism} on {day.network}: "
        + (f"settled after {day.rounds} rounds, {day.messages} messages" if day.settled else f"NOT settled after {day.rounds} rounds"),
        *(f"left out     {name}: {why}" for name, why in day.left_out.items()),
    ]
    if day.participants:
        heads = ("import kWh", "export kWh", "sold kWh", "bought kWh", "mean price")
        words.append(f"{'participant':<16} {'bus':<10} " + " ".join(f"{head:>11}" for head in heads))
    for item in day.participants:
        net, price = np.array(item.net_w), float(np.mean(item.price_per_kwh))
        words.append(
            f"{item.name:<16} {item.bus:<10} {net.clip(0.0).sum() * kwh:>11.1f} {(-net).clip(0.0).sum() * kwh:>11.1f} "
            f"{sum(item.sold_w) * kwh:>11.1f} {sum(item.bought_w) * kwh:>11.1f} {price:>11.4f}"
        )
    return [*words, f"time         {day.duration_s:.2f} s"]
