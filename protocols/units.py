"""Units and signs, stated once for the whole system.

Everything inside is SI without prefixes: watt, watt-hour, volt, ampere, ohm, second. Times are Unix seconds, UTC; intervals are
half-open, [start, start + duration). A name ends in its unit: `import_limit_w`, `capacity_wh`, `soc_frac`. Prices are per kWh,
at the rim only.

Power is positive **into** the thing named. A house that imports has `net_import_w > 0`; a PV generator that produces has
`power_w < 0`; a battery that charges has `power_w > 0`. The net import of a connection point is the sum of its parts,

    net_import_w = load_w + battery_w + ev_w + pv_w          (Li et al. 2026, equation (2), without the financial share)

An envelope is a pair of magnitudes, never signed: `-export_limit_w <= net_import_w <= import_limit_w`. Zero is a value: a limit of
0 W forbids, None says nothing. What people look at (command line, report) shows generation as a positive number.

The annotated types below carry the bounds that decoding enforces. msgspec's bounds let infinity pass and are not checked by
constructors, so every power, energy and time here has an upper bound too, and `protocols.codec` checks what it encodes.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

MAX_POWER_W = 1e9
"""Above any connection point of a distribution network; a larger number is a fault in the message."""

MAX_TIME_S = 4102444800
"""1 January 2100. A later time is a fault in the message."""

PowerW = Annotated[float, Meta(ge=-MAX_POWER_W, le=MAX_POWER_W)]
"""Active power into the thing named [W]."""

LimitW = Annotated[float, Meta(ge=0.0, le=MAX_POWER_W)]
"""A limit on active power, a magnitude [W]."""

EnergyWh = Annotated[float, Meta(ge=0.0, le=1e12)]
"""Energy, a magnitude or an ever-growing counter [Wh]."""

VoltageV = Annotated[float, Meta(ge=0.0, le=1e6)]
"""Root-mean-square voltage [V]."""

Fraction = Annotated[float, Meta(ge=0.0, le=1.0)]
"""A ratio between 0 and 1."""

TimeS = Annotated[float, Meta(ge=0.0, le=MAX_TIME_S)]
"""Unix time, UTC [s]."""

DurationS = Annotated[float, Meta(ge=0.0, le=366 * 86400.0)]
"""A duration [s]."""

GradHundredthsPercentPerS = Annotated[int, Meta(ge=0, le=10000)]
"""`setGradW` of IEEE 2030.5: hundredths of a percent of rated power per second. 27 is AS/NZS 4777.2's default, 0 means none."""

Identifier = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
"""Name of a node, community or feeder: one MQTT topic level, safe in file names and in Home Assistant object ids."""
