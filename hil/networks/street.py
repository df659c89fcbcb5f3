"""The feeder of the `street` scenario: how its tables were made. Run `python -m hil.networks.street` to write them again.

30 customers (27 on one phase, 3 on three) on three branches of about 200 m of four-wire low-voltage aerial bundled cable behind
one
22 kV/433 V Dyn11 pole transformer. The street is invented; its parts are real:

* Mains: LV ABC 4 x 95 mm2 to AS/NZS 3560.1, maximum DC resistance 0.320 ohm/km at 20 C, 19 strands (conductor 11.4 mm, core 15.0
  mm); services: ABC 2 x 25 mm2, 1.20 ohm/km (conductor 5.9 mm, core 8.7 mm). Resistances are taken to 50 C with 0.00403 per K.
  The neutral is a fourth core of the same size and carries the whole return current: no relief through earth (the cautious
  reading of a multiple-earthed neutral). With self reactance from geometric mean distances, x = 0.0628 ln(D / GMR) ohm/km at 50
  Hz, GMR = 0.758 r (19 strands) or 0.726 r (7 strands), eliminating the neutral gives per phase  z_self = 2 r + j 2 x  and  z_mut
  = r + j x, that is z1 = r + jx and z0 = 4 z1.
* Transformer: 160 kVA, impedance 4 %, load loss 1.55 %, no-load loss 0.25 % (the class of AS 2374.1.2), fixed tap 1.025 on the
  high side: 433 V / 1.025 leaves 244 V at no load, the usual Australian setting that dates from the years before rooftop PV.
* Source: 22 kV with a fault level of 90 MVA (R/X 0.5), a rural-fringe zone substation some kilometres away.

Limits: AS 60038, 230 V +10 % / -6 %: 253 V and 216 V at every connection point; 160 kVA; 215 A per core.
Phases are allotted unevenly on purpose (13 / 8 / 6 single-phase customers), with more PV on the fullest phase, as streets grow.
"""

from __future__ import annotations

import csv
import math
import sys
from pathlib import Path

import msgspec

FOLDER = Path(__file__).parent / "street"
NOMINAL_V = 230.0
MAXIMUM_V = 253.0
MINIMUM_V = 216.0
TRANSFORMER_VA = 160e3
BRANCH_POLES = {"a": 6, "b": 5, "c": 5}
SPAN_M = {"a": 36.0, "b": 38.0, "c": 36.0}


class Cable(msgspec.Struct, frozen=True, kw_only=True):
    dc_ohm_per_km: float
    conductor_mm: float
    core_mm: float
    gmr_ratio: float
    rated_a: float

    def core_impedance_ohm_per_km(self, cores: int) -> complex:
        """Of one core at 50 C; the mean distance is that of neighbours in a square bundle of four or of the two of a service."""
        distance_mm = self.core_mm * (math.sqrt(2.0) ** (1.0 / 3.0) if cores == 4 else 1.0)
        gmr_mm = self.gmr_ratio * self.conductor_mm / 2.0
        return complex(self.dc_ohm_per_km * (1.0 + 0.00403 * 30.0), 2.0 * math.pi * 50.0 * 2e-4 * math.log(distance_mm / gmr_mm))


MAINS = Cable(dc_ohm_per_km=0.320, conductor_mm=11.4, core_mm=15.0, gmr_ratio=0.758, rated_a=215.0)
SERVICE = Cable(dc_ohm_per_km=1.20, conductor_mm=5.9, core_mm=8.7, gmr_ratio=0.726, rated_a=100.0)


class Customer(msgspec.Struct, frozen=True, kw_only=True):
    """`phases` of {1, 2, 3}; `pole` is branch letter and number, counted from the transformer."""

    name: str
    pole: str
    phases: tuple[int, ...]
    service_m: float


def _customers() -> tuple[Customer, ...]:
    """Two customers on most poles, in house-number order from the transformer outwards, branch a first."""
    phases = {
        "a": [(1,), (2,), (1,), (3,), (1,), (1,), (2,), (1,), (1, 2, 3), (1,), (2,)],
        "b": [(1,), (1,), (2,), (3,), (1,), (1, 2, 3), (2,), (1,), (3,), (1,)],
        "c": [(2,), (1,), (3,), (1,), (2,), (3,), (1, 2, 3), (2,), (3,)],
    }
    customers: list[Customer] = []
    for branch, allotted in phases.items():
        for index, own in enumerate(allotted):
            number = len(customers) + 1
            customers.append(
                Customer(
                    name=f"home_{number:02d}",
                    pole=f"{branch}{1 + index * BRANCH_POLES[branch] // len(allotted)}",
                    phases=own,
                    service_m=12.0 + 4.0 * ((number * 7) % 5),
                )
            )
    return tuple(customers)


CUSTOMERS = _customers()


def tables() -> dict[str, list[dict[str, object]]]:
    """The five tables by name, in the layout of the published low-voltage networks (impedances are totals per line)."""
    feeder = {"buses": _buses(), "lines": _lines(), "transformers": _transformers(), "loads": _loads()}
    reactance_ohm = 22e3**2 / 90e6 / math.hypot(1.0, 0.5)
    source = {
        "bus": "street_mv", "kv_ll": 22.0, "pu": 1.0, "angle_deg": 0.0,
        "r1_ohm": _digits(0.5 * reactance_ohm), "x1_ohm": _digits(reactance_ohm),
        "r0_ohm": _digits(0.5 * reactance_ohm), "x0_ohm": _digits(reactance_ohm), "base_freq_hz": 50,
    }  # fmt: skip
    return feeder | {"source": [source]}


def write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tables().items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def _poles() -> list[str]:
    return [f"{branch}{number}" for branch, count in BRANCH_POLES.items() for number in range(1, count + 1)]


def _dotted(phases: tuple[int, ...]) -> str:
    return ".".join(str(phase) for phase in phases)


def _digits(value: float) -> float:
    return float(f"{value:.8g}")


def _buses() -> list[dict[str, object]]:
    rows: list[dict[str, object]] = [{"bus": "street_mv", "kv_ln": 12.701706, "nodes": "1.2.3"}]
    rows += [{"bus": f"street_{name}", "kv_ln": 0.23, "nodes": "1.2.3"} for name in ["lv", *_poles()]]
    rows += [{"bus": f"street_{customer.name}", "kv_ln": 0.23, "nodes": _dotted(customer.phases)} for customer in CUSTOMERS]
    return rows


def _lines() -> list[dict[str, object]]:
    rows = []
    for pole in _poles():
        branch, number = pole[0], int(pole[1:])
        upstream = "street_lv" if number == 1 else f"street_{branch}{number - 1}"
        rows.append(_line(f"mains_{pole}", upstream, f"street_{pole}", (1, 2, 3), MAINS, SPAN_M[branch]))
    for customer in CUSTOMERS:
        rows.append(
            _line(
                f"service_{customer.name}",
                f"street_{customer.pole}",
                f"street_{customer.name}",
                customer.phases,
                SERVICE,
                customer.service_m,
            )
        )
    return rows


def _line(name: str, from_bus: str, to_bus: str, phases: tuple[int, ...], cable: Cable, length_m: float) -> dict[str, object]:
    core_ohm = cable.core_impedance_ohm_per_km(4 if len(phases) == 3 else 2) * length_m / 1000.0
    three = len(phases) == 3
    return {
        "line": name, "from_bus": from_bus, "to_bus": to_bus, "phases_from": _dotted(phases), "phases_to": _dotted(phases),
        "r_self_ohm": _digits(2.0 * core_ohm.real), "x_self_ohm": _digits(2.0 * core_ohm.imag),
        "r_mut_ohm": _digits(core_ohm.real) if three else 0, "x_mut_ohm": _digits(core_ohm.imag) if three else 0,
        "c_self_nf": 0, "c_mut_nf": 0, "length_m": length_m, "amp_a": cable.rated_a, "in_service": 1,
    }  # fmt: skip


def _transformers() -> list[dict[str, object]]:
    resistance_pct = 1.55
    return [
        {
            "trafo": "street_tx", "bus_hv": "street_mv", "bus_lv": "street_lv", "kva": TRANSFORMER_VA / 1e3, "kv_hv": 22,
            "kv_lv": 0.433, "conn_hv": "D", "conn_lv": "Yn", "xhl_pct": round(math.sqrt(4.0**2 - resistance_pct**2), 4),
            "r_hv_pct": resistance_pct / 2.0, "r_lv_pct": resistance_pct / 2.0, "noload_pct": 0.25, "tap_hv": 1.025,
            "tap_lv": 1,
        }
    ]  # fmt: skip


def _loads() -> list[dict[str, object]]:
    return [
        {
            "load": customer.name, "bus": f"street_{customer.name}", "phases": _dotted(customer.phases),
            "kv": 0.23 if len(customer.phases) == 1 else 0.4, "p_kw": 1, "q_kvar": 0.25, "vmin_pu": 0.5, "vmax_pu": 1.5,
            "conn": "Y", "profile": customer.name,
        }
        for customer in CUSTOMERS
    ]  # fmt: skip


if __name__ == "__main__":
    write(FOLDER)
    sys.stdout.write(f"wrote {FOLDER}\n")
