"""The values that pass between the devices, the deciders and the shells of one household.

Units and signs are those of `protocols.units`: watts, watt hours, volts, seconds; power is positive *into* the thing named, so a
producing PV system has `power_w <= 0`, a charging battery has `power_w > 0`, and a meter's `power_w` is the net import of the
connection point. Limits are magnitudes. `None` means "not known" or "not set" and is never the same as zero.
"""

import enum

import msgspec


class DeviceKind(enum.StrEnum):
    """What a device is to the rest of the edge; a hybrid inverter appears as one PV and one battery."""

    METER = "meter"
    PV = "pv"
    BATTERY = "battery"
    EV_CHARGER = "ev_charger"
    LOAD = "load"


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What one device said in one cycle; decoded, scaled and signed, but not yet believed.

    `time_s` is when the reading was taken by the clock of the edge. `limit_w` is the power limit that the device reports to be in
    force (read-back of a setpoint), `available_w` the power that a PV system could produce or a load could draw if it were not
    limited, `connected` whether a vehicle is plugged in. The energy counters run on while a device is alive.
    """

    name: str
    kind: DeviceKind
    time_s: float
    power_w: float
    voltage_v: tuple[float, ...] | None = None
    rated_w: float | None = None
    soc_frac: float | None = None
    capacity_wh: float | None = None
    max_charge_w: float | None = None
    max_discharge_w: float | None = None
    available_w: float | None = None
    connected: bool | None = None
    limit_w: float | None = None
    energy_import_wh: float | None = None
    energy_export_wh: float | None = None
    alarms: tuple[str, ...] = ()


class Setpoint(msgspec.Struct, frozen=True, kw_only=True):
    """What the edge asks of one device until the next cycle, and what the device shall do by itself if no further one arrives.

    PV: `limit_w` is the magnitude of generation allowed, `None` leaves it uncurtailed. BATTERY: `power_w` is signed, positive
    charges. EV_CHARGER and LOAD: `limit_w` is the largest draw. `revert_power_w` or `revert_limit_w` takes the place of the setpoint
    `revert_after_s` after the last write, by the device's own timer, where the device can do that.
    """

    name: str
    kind: DeviceKind
    power_w: float | None = None
    limit_w: float | None = None
    revert_power_w: float | None = None
    revert_limit_w: float | None = None
    revert_after_s: float | None = None


class WriteStatus(enum.StrEnum):
    """What became of a setpoint."""

    WRITTEN = "written"
    UNCHANGED = "unchanged"
    BUDGET_SPENT = "budget_spent"
    NOT_SUPPORTED = "not_supported"


class WriteOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of a device that was reached.

    WRITTEN: registers were written (and read back where `verified`). UNCHANGED: the device holds the setpoint already.
    BUDGET_SPENT: the write budget that protects the device's flash refused a change that was not urgent. NOT_SUPPORTED: the device
    has no such control. `foreign_master` is set when the device holds a setpoint that the edge did not write: somebody else
    commands it too. `reverts` is false when the device cannot fall back to `revert_*` by itself; `detail` says why.
    """

    name: str
    status: WriteStatus
    verified: bool = False
    foreign_master: bool = False
    reverts: bool = True
    detail: str = ""
