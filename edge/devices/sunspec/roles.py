"""A discovered SunSpec device seen as a meter, a PV system or a battery: which points to read, and what they mean.

Each role picks the best source that the device has (a 700-series model before an older one), in SI and with the signs of the edge.
What cannot be done is said in the capabilities in plain words.
"""

from collections.abc import Callable, Sequence

from edge.devices.decode import Field
from edge.devices.mapping import Capabilities, DeviceMap, Numbers, Wanted, plan_reads
from edge.devices.ratings import Ratings
from edge.devices.sunspec.controls import (
    NO_CONTROL,
    ControlChoice,
    generation_limit_123,
    generation_limit_704,
    power_124,
    power_704,
)
from edge.devices.sunspec.discovery import SunSpecDevice
from edge.devices.sunspec.fields import Survey
from edge.devices.sunspec.tables import ALARM_BITS
from edge.errors import DeviceGarbage, ProfileError
from edge.values import DeviceKind, Reading, Setpoint

OFF_STATES = {"101": (1, 2), "701": (0, 1)}
"""St of 101 to 113 and InvSt of 701 that mean off or sleeping: an inverter at night may not implement its power."""

FAULT_STATES = {"101": 7, "701": 6}

AC_MODELS = (701, 113, 112, 111, 103, 102, 101)
METER_MODELS = (203, 204, 202, 201)


def bind(device: SunSpecDevice, survey: Survey, kind: DeviceKind, ratings: Ratings) -> DeviceMap:
    """The map of a device in one role; `ProfileError` when its models do not suffice."""
    if kind is DeviceKind.METER:
        return _meter(device, survey, ratings)
    if kind is DeviceKind.PV:
        return _pv(device, survey, ratings)
    if kind is DeviceKind.BATTERY:
        return _battery(device, survey, ratings)
    raise ProfileError(f"SunSpec has no model for a device of kind {kind}: use a register-map profile")


def _meter(device: SunSpecDevice, survey: Survey, ratings: Ratings) -> DeviceMap:
    model = device.find(*METER_MODELS)
    if model is None:
        raise _lacking(device, DeviceKind.METER, METER_MODELS)
    phases = 1 if model.id == 201 else 3
    fast = survey.fields(model, power=("W", float(ratings.meter_sign)), events="Evt")
    fast += survey.fields(model, **{f"v{i}": f"PhVph{'ABC'[i]}" for i in range(phases)})
    slow = survey.fields(model, imported="TotWhImp", exported="TotWhExp")

    def interpret(name: str, now_s: float, numbers: Numbers) -> Reading:
        return Reading(
            name=name,
            kind=DeviceKind.METER,
            time_s=now_s,
            power_w=_power(name, numbers, "power"),
            voltage_v=_voltages(numbers),
            energy_import_wh=numbers.get("imported"),
            energy_export_wh=numbers.get("exported"),
            alarms=_alarms(numbers.get("events"), "meter"),
        )

    capabilities = Capabilities(measures_power=True, notes=device.notes)
    return _assemble(device, survey, DeviceKind.METER, (fast, slow, [], []), interpret, NO_CONTROL, capabilities)


def _pv(device: SunSpecDevice, survey: Survey, ratings: Ratings) -> DeviceMap:
    model = device.find(*AC_MODELS)
    if model is None:
        raise _lacking(device, DeviceKind.PV, AC_MODELS)
    ports = survey.dc_ports("pv") if survey.has_storage else []
    fast = _ac_fields(survey, model.id) + ports
    extras = survey.fields(device.find(122), available="WAval")
    rare = survey.fields(device.find(702), rated="WMax", nameplate="WMaxRtg") or (
        survey.fields(device.find(121), rated="WMax") + survey.fields(device.find(120), nameplate="WRtg")
    )
    choice = generation_limit_704(survey, ratings.rated_w) or generation_limit_123(survey, ratings.rated_w) or NO_CONTROL
    notes = [*device.notes, *choice.notes]
    if choice.control is None:
        notes.append("neither model 704 nor model 123 is usable: generation cannot be limited")
    if survey.has_storage and not ports:
        notes.append("the inverter does not tell the power of its PV inputs apart: PV and battery are measured as one")
    family = "701" if model.id == 701 else "101"

    def interpret(name: str, now_s: float, numbers: Numbers) -> Reading:
        if ports:
            generated_w = _ports_w(name, numbers, ports, family)
        elif numbers.get("power") is None and numbers.get("state") in OFF_STATES[family]:
            generated_w = 0.0
        else:
            generated_w = _power(name, numbers, "power")
        return Reading(
            name=name,
            kind=DeviceKind.PV,
            time_s=now_s,
            power_w=min(0.0, -generated_w),
            voltage_v=_voltages(numbers),
            rated_w=_first(ratings.rated_w, numbers.get("rated"), numbers.get("nameplate")),
            available_w=numbers.get("available"),
            limit_w=choice.limit_in_force(numbers),
            energy_import_wh=numbers.get("absorbed"),
            energy_export_wh=numbers.get("injected"),
            alarms=_faults(numbers, family) + _alarms(numbers.get("events"), "inverter") + choice.warnings(numbers),
        )

    capabilities = Capabilities(
        measures_power=True, limits_generation=choice.control is not None, reverts=choice.reverts, notes=tuple(notes)
    )
    return _assemble(device, survey, DeviceKind.PV, (fast, [], rare, extras), interpret, choice, capabilities)


def _battery(device: SunSpecDevice, survey: Survey, ratings: Ratings) -> DeviceMap:
    ports = survey.dc_ports("ess")
    bank = device.find(802)
    ac = device.find(*AC_MODELS)
    hybrid = bool(survey.dc_ports("pv"))
    if ac is None and bank is None:
        raise _lacking(device, DeviceKind.BATTERY, (*AC_MODELS, 802))
    fast = _ac_fields(survey, ac.id) if ac is not None else []
    fast += [*ports, *survey.dc_ports("pv")] if hybrid else []
    if bank is not None and (ac is None or (hybrid and not ports)):
        fast += survey.fields(bank, bank_power="W")
    slow = (
        survey.fields(device.find(713), soc=("SoC", 0.01))
        or survey.fields(bank, soc=("SoC", 0.01))
        or survey.fields(device.find(124), soc=("ChaState", 0.01))
    )
    if not slow:
        raise ProfileError(f"{device_models(device)}: no model tells the state of charge (713, 802 or 124)")
    extras = survey.fields(bank, bank_events="Evt1")
    rare = _storage_ratings(device, survey)
    choice = power_704(survey, ratings.rated_w) or power_124(survey, ratings.max_charge_w, ratings.max_discharge_w) or NO_CONTROL
    notes = [*device.notes, *choice.notes]
    if choice.control is None:
        notes.append("neither model 704 nor model 124 is usable: the battery cannot be commanded")
    family = "701" if ac is not None and ac.id == 701 else "101"
    source = "ports" if hybrid and ports else "bank" if any(f.name == "bank_power" for f in fast) else "ac"

    def interpret(name: str, now_s: float, numbers: Numbers) -> Reading:
        if source == "ports":
            discharging_w = _ports_w(name, numbers, ports, family)
        else:
            discharging_w = _power(name, numbers, "bank_power" if source == "bank" else "power")
        soc_frac = numbers.get("soc")
        return Reading(
            name=name,
            kind=DeviceKind.BATTERY,
            time_s=now_s,
            power_w=0.0 - discharging_w,
            voltage_v=_voltages(numbers),
            rated_w=_first(ratings.rated_w, numbers.get("rated"), numbers.get("nameplate")),
            soc_frac=soc_frac if soc_frac is not None and 0.0 <= soc_frac <= 1.0 else None,
            capacity_wh=_first(ratings.capacity_wh, numbers.get("capacity")),
            max_charge_w=_first(ratings.max_charge_w, numbers.get("max_charge")),
            max_discharge_w=_first(ratings.max_discharge_w, numbers.get("max_discharge")),
            limit_w=choice.limit_in_force(numbers),
            energy_import_wh=numbers.get("absorbed"),
            energy_export_wh=numbers.get("injected"),
            alarms=_faults(numbers, family)
            + _alarms(numbers.get("events"), "inverter")
            + _alarms(numbers.get("bank_events"), "battery")
            + choice.warnings(numbers),
        )

    capabilities = Capabilities(
        measures_power=True, sets_power=choice.control is not None, stores_energy=True, reverts=choice.reverts, notes=tuple(notes)
    )
    return _assemble(device, survey, DeviceKind.BATTERY, (fast, slow, rare, extras), interpret, choice, capabilities)


def _storage_ratings(device: SunSpecDevice, survey: Survey) -> list[Field]:
    bank, legacy = device.find(802), device.find(124)
    capacity = (
        survey.fields(device.find(713), capacity="WHRtg")
        or survey.fields(bank, capacity="WHRtg")
        or survey.fields(device.find(120), capacity="WHRtg")
    )
    rates = (
        survey.fields(device.find(702), max_charge="WChaRteMax", max_discharge="WDisChaRteMax")
        or survey.fields(device.find(702), max_charge="WChaRteMaxRtg", max_discharge="WDisChaRteMaxRtg")
        or survey.fields(bank, max_charge="WChaRteMax", max_discharge="WDisChaRteMax")
        or survey.fields(device.find(120), max_charge="MaxChaRte", max_discharge="MaxDisChaRte")
        or survey.fields(legacy, max_charge="WChaMax") + survey.fields(legacy, max_discharge="WChaMax")
    )
    rated = survey.fields(device.find(702), rated="WMax", nameplate="WMaxRtg") or (
        survey.fields(device.find(121), rated="WMax") + survey.fields(device.find(120), nameplate="WRtg")
    )
    return capacity + rates + rated


def _ac_fields(survey: Survey, model_id: int) -> list[Field]:
    model = survey.device.find(model_id)
    if model_id == 701:
        return survey.fields(
            model, power="W", state="InvSt", events="Alrm", v0="VL1", v1="VL2", v2="VL3", injected="TotWhInj", absorbed="TotWhAbs"
        )
    phases = {1: "A", 2: "AB", 3: "ABC"}[model_id % 10]
    voltages = {f"v{i}": f"PhVph{phase}" for i, phase in enumerate(phases)}
    return survey.fields(model, power="W", state="St", events="Evt1", injected="WH", **voltages)


def _assemble(
    device: SunSpecDevice,
    survey: Survey,
    kind: DeviceKind,
    fields: tuple[list[Field], list[Field], list[Field], list[Field]],
    interpret: Callable[[str, float, Numbers], Reading],
    choice: ControlChoice,
    capabilities: Capabilities,
) -> DeviceMap:
    fast, slow, rare, extras = fields
    touched = [m for m in device.models if any(m.address <= f.address < m.end for f in fast)]
    headers = [Field(name=f"model {m.id} at {m.address}", address=m.address, type="u16") for m in touched]
    cuts = sorted(m.address for m in device.models) if device.one_model_at_a_time else ()
    plans = plan_reads(fast, [*slow, *choice.fields], rare, controls=choice.items, headers=headers, extras=extras, cuts=cuts)
    control: Callable[[Setpoint, Numbers], Wanted] | None = choice.control
    return DeviceMap(
        kind=kind,
        identity=survey.identity,
        capabilities=capabilities,
        fast=plans[0],
        slow=plans[1],
        rare=plans[2],
        interpret=interpret,
        control=control,
        switched_off=choice.switched_off,
        headers=tuple((f.name, m.id) for f, m in zip(headers, touched, strict=True)),
        heartbeat=_heartbeat(survey),
    )


def _heartbeat(survey: Survey) -> tuple[int, int] | None:
    """ControllerHb of model 715, else CtrlHb of model 802."""
    for model_id, name in ((715, "ControllerHb"), (802, "CtrlHb")):
        registers = survey.raw(model_id, name)
        if registers is not None:
            return survey.address(model_id, name), len(registers)
    return None


def _power(name: str, numbers: Numbers, field: str) -> float:
    power_w = numbers.get(field)
    if power_w is None:
        raise DeviceGarbage(f"{name}: the device does not implement its power just now (not-implemented value, or no scale factor)")
    return power_w


def _ports_w(name: str, numbers: Numbers, ports: Sequence[Field], family: str) -> float:
    """The sum of what the ports tell; none of them telling anything is zero only while the inverter says that it is off."""
    known = [power_w for power_w in (numbers.get(port.name) for port in ports) if power_w is not None]
    if not known and numbers.get("state") not in OFF_STATES[family]:
        raise DeviceGarbage(f"{name}: no port of the device tells its power just now, and the inverter does not say that it is off")
    return sum(known)


def _voltages(numbers: Numbers) -> tuple[float, ...] | None:
    known = [v for v in (numbers.get("v0"), numbers.get("v1"), numbers.get("v2")) if v is not None and v > 0]
    return tuple(known) or None


def _first(*candidates: float | None) -> float | None:
    for candidate in candidates:
        if candidate is not None:
            return candidate
    return None


def _faults(numbers: Numbers, family: str) -> tuple[str, ...]:
    return ("the inverter reports state fault",) if numbers.get("state") == FAULT_STATES[family] else ()


def _alarms(bits: float | None, table: str) -> tuple[str, ...]:
    if bits is None or bits == 0:
        return ()
    names: Sequence[str] = ALARM_BITS[table]
    number = int(bits)
    return tuple((names[i] if i < len(names) and names[i] else f"{table} event {i}") for i in range(32) if number >> i & 1)


def device_models(device: SunSpecDevice) -> str:
    """The models of a device in one line."""
    return f"models {', '.join(str(m.id) for m in device.models)}"


def _lacking(device: SunSpecDevice, kind: DeviceKind, needed: Sequence[int]) -> ProfileError:
    return ProfileError(f"not a {kind}: expected one of the models {', '.join(map(str, needed))}, found {device_models(device)}")
