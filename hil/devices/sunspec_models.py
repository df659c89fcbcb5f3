"""The SunSpec models that PV and battery inverters have in common: nameplate, settings, status, controls, and the DER set.

Every function builds the block of one model over one inverter; values are read from the inverter when the block is encoded.
"""

from collections.abc import Callable, Mapping

from hil.devices.limits import GenerationLimit, PowerSetpoint
from hil.devices.registers import ILLEGAL_VALUE, ModbusRefusal
from hil.devices.sunspec import SunSpecBlock, Value
from hil.devices.sunspec_device import Inverter, scale_for

NOMINAL_VOLTAGE_V = 230.0
NOMINAL_FREQUENCY_HZ = 50.0
CONTROL_MODES_MAX_W = 1 << 0
CONTROL_MODES_FIXED_W = 1 << 1
HEARTBEAT_PERIOD = 1 << 16


def nameplate_block(device: Inverter, *, der_type: int, capacity_wh: float | None = None) -> SunSpecBlock:
    """Model 120; `der_type` 4 is PV, 82 is PV with storage."""
    power_sf = scale_for(device.rated_w, raw="uint16")
    rated_a = device.rated_w / NOMINAL_VOLTAGE_V
    fixed: dict[str, Value] = {"WRtg_SF": power_sf, "VARtg_SF": power_sf, "VArRtg_SF": power_sf, "ARtg_SF": -2, "PFRtg_SF": -2}
    fixed |= {"DERTyp": der_type, "WRtg": device.rated_w, "VARtg": device.rated_w, "ARtg": rated_a}
    for quadrant in (1, 2, 3, 4):
        fixed[f"VArRtgQ{quadrant}"] = 0.0
        fixed[f"PFRtgQ{quadrant}"] = 1.0
    if rated_a > 655.0:
        fixed["ARtg_SF"] = 0
    if capacity_wh is not None:
        fixed |= {"WHRtg_SF": scale_for(capacity_wh, raw="uint16", finest=0), "WHRtg": capacity_wh}
    return SunSpecBlock(120, fixed)


def settings_block(device: Inverter) -> SunSpecBlock:
    """Model 121; WMax may be lowered below the rating, and the percentages of 123 refer to it."""
    fixed: dict[str, Value] = {"WMax_SF": scale_for(device.rated_w, raw="uint16"), "VRef_SF": -1, "VRefOfs_SF": -1}
    fixed |= {"VMinMax_SF": -1, "ECPNomHz_SF": -2}
    fixed |= {"VRef": NOMINAL_VOLTAGE_V, "VRefOfs": 0.0, "VMax": 265.0, "VMin": 180.0, "ECPNomHz": NOMINAL_FREQUENCY_HZ}
    return SunSpecBlock(
        121, fixed, live=lambda: {"WMax": device.max_w}, commands=lambda values: _take_settings(device, 121, values)
    )


def status_block(device: Inverter, *, available_w: Callable[[], float] | None) -> SunSpecBlock:
    """Model 122: what is connected and operating, the energy delivered, and what the sun offers; `available_w` is None for a store."""
    storage = available_w is None

    def values() -> Mapping[str, Value]:
        connected = device.connected
        operating = 0b111 if connected and device.power_w != 0.0 else 0b011 if connected else 0
        available = {} if available_w is None else {"WAval": available_w()}
        return {
            **available,
            "PVConn": 0 if storage else operating,
            "StorConn": operating if storage else 0,
            "ECPConn": int(connected),
            "ActWh": int(device.energy_out_wh),
            "StActCtl": 1 if device.throttled_frac() is not None else 0,
        }

    return SunSpecBlock(122, {"WAval_SF": scale_for(1.5 * device.rated_w, raw="uint16")}, live=values)


def controls_block(device: Inverter, limit: GenerationLimit) -> SunSpecBlock:
    """Model 123; the inverter runs at unity power factor, acts at once, and refuses to do otherwise with exception 3."""

    def values() -> Mapping[str, Value]:
        return {"Conn": int(device.connect_requested), **limit.controls_values()}

    def take(written: Mapping[str, float]) -> None:
        power_factor, window_s = written.get("OutPFSet", 1.0), written.get("WMaxLimPct_WinTms", 0)
        if power_factor != 1.0 or window_s != 0 or written.get("VArPct_Ena", 0) != 0 or written.get("Conn", 1) not in (0, 1):
            raise ModbusRefusal(ILLEGAL_VALUE)
        limit.take_controls(written, device.now_s)
        if "Conn" in written:
            device.connect_requested = written["Conn"] == 1
        device.count_writes("123", tuple(written))

    fixed: dict[str, Value] = {"WMaxLimPct_SF": -2, "OutPFSet_SF": -2, "VArPct_SF": 0}
    fixed |= {"WMaxLimPct_WinTms": 0, "OutPFSet": 1.0, "OutPFSet_Ena": 0, "VArPct_Ena": 0}
    return SunSpecBlock(123, fixed, live=values, commands=take)


def der_capacity_block(device: Inverter, *, charge_w: float | None, discharge_w: float | None) -> SunSpecBlock:
    """Model 702: ratings, and the settings that may lie below them."""
    rated_w = device.rated_w
    storage = charge_w is not None and discharge_w is not None
    fixed: dict[str, Value] = {"W_SF": scale_for(rated_w, raw="uint16"), "PF_SF": -2, "V_SF": -1, "A_SF": -1}
    fixed |= {"VA_SF": fixed["W_SF"], "Var_SF": fixed["W_SF"]}
    fixed |= {"WMaxRtg": rated_w, "VAMaxRtg": rated_w, "VNomRtg": NOMINAL_VOLTAGE_V, "AMaxRtg": rated_w / NOMINAL_VOLTAGE_V}
    fixed |= {"NorOpCatRtg": 0, "AbnOpCatRtg": 0, "VAMax": rated_w, "VNom": NOMINAL_VOLTAGE_V}
    fixed["CtrlModes"] = CONTROL_MODES_MAX_W | CONTROL_MODES_FIXED_W if storage else CONTROL_MODES_MAX_W
    if storage:
        fixed |= {"WChaRteMaxRtg": charge_w, "WDisChaRteMaxRtg": discharge_w}
        fixed |= {"WChaRteMax": charge_w, "WDisChaRteMax": discharge_w}
    return SunSpecBlock(
        702, fixed, live=lambda: {"WMax": device.max_w}, commands=lambda values: _take_settings(device, 702, values)
    )


def enter_service_block(device: Inverter) -> SunSpecBlock:
    """Model 703: permission to enter service."""
    fixed: dict[str, Value] = {"V_SF": -1, "Hz_SF": -2, "ESVHi": 105.0, "ESVLo": 91.7, "ESHzHi": 50.1, "ESHzLo": 49.5}
    fixed |= {"ESDlyTms": 60, "ESRmpTms": 0}

    def take(written: Mapping[str, float]) -> None:
        if written.get("ES", 1) not in (0, 1):
            raise ModbusRefusal(ILLEGAL_VALUE)
        if "ES" in written:
            device.connect_requested = written["ES"] == 1
        device.count_writes("703", tuple(written))

    return SunSpecBlock(703, fixed, live=lambda: {"ES": int(device.connect_requested)}, commands=take)


def der_control_block(device: Inverter, limit: GenerationLimit, setpoint: PowerSetpoint | None) -> SunSpecBlock:
    """Model 704: the generation limit, and for storage the active power setpoint, each with its reversion."""

    def values() -> Mapping[str, Value]:
        now_s = device.now_s
        limits = limit.der_values(now_s)
        return limits if setpoint is None else {**limits, **setpoint.values(now_s)}

    def take(written: Mapping[str, float]) -> None:
        limit.take_der(written, device.now_s)
        if setpoint is not None:
            setpoint.take(written, device.now_s)
        device.count_writes("704", tuple(written))

    fixed: dict[str, Value] = {"WMaxLimPct_SF": -2, "WSet_SF": 0, "WSetPct_SF": -2, "AntiIslEna": 1}
    return SunSpecBlock(704, fixed, live=values, commands=take)


def der_heartbeat_block(device: Inverter) -> SunSpecBlock:
    """Model 715: remote control is on, the heartbeat of the DER counts seconds, that of the controller is kept."""

    def values() -> Mapping[str, Value]:
        return {"LocRemCtl": 0, "DERHb": int(device.now_s) % HEARTBEAT_PERIOD}

    def take(written: Mapping[str, float]) -> None:
        device.count_writes("715", tuple(written))

    return SunSpecBlock(715, {"ControllerHb": 0, "AlarmReset": 0}, live=values, commands=take)


def _take_settings(device: Inverter, model_id: int, written: Mapping[str, float]) -> None:
    max_w = written.get("WMax", device.max_w)
    if not 0.0 < max_w <= device.rated_w:
        raise ModbusRefusal(ILLEGAL_VALUE)
    device.max_w = max_w
    device.count_writes(str(model_id), tuple(written))
