"""Register-map profiles: devices outside SunSpec described as data, not code.

A profile is a TOML file that names the document it was written from, lists the points (address, type, factor to SI with the signs of
the edge), says which requests fetch them, which point means what, and how a limit or a power is written. It is validated completely
when it is loaded; a mistake is one line that names the file, the place and the reason. Shipped profiles are in `profiles/`; any other
is given by its path.
"""

import functools
import itertools
import pathlib
from collections.abc import Callable
from typing import Annotated, Literal

import msgspec

from edge.devices.blocks import MAX_REGISTERS, Block
from edge.devices.decode import NUMBER_TYPES, Field
from edge.devices.mapping import Capabilities, DeviceMap, Numbers, ReadPlan, Wanted, read_plan
from edge.devices.profile_control import Control, Watchdog, limit_control
from edge.devices.ratings import Ratings
from edge.errors import DeviceGarbage, ProfileError
from edge.values import DeviceKind, Reading, Setpoint
from protocols.documents import DocumentRefused, decode_toml
from protocols.errors import one_line

SHIPPED = pathlib.Path(__file__).with_name("profiles")

Address = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
NumberName = Literal["u16", "i16", "u32", "i32", "u64", "i64", "f32", "f64"]


class Read(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One request: `pace` says how often."""

    address: Address
    count: Annotated[int, msgspec.Meta(ge=1, le=MAX_REGISTERS)]
    function: Literal[3, 4] = 3
    pace: Literal["fast", "slow", "rare"] = "fast"


class PointEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One number. `factor` (never 0) leads to SI with the signs of the edge; `words` is the order of the registers of a wide number."""

    name: Name
    address: Address
    type: NumberName
    function: Literal[3, 4] = 3
    factor: Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)] = 1.0
    words: Literal["high_first", "low_first"] = "high_first"
    unit: Annotated[str, msgspec.Meta(max_length=12)] = ""

    @property
    def end(self) -> int:
        """The first address behind the point."""
        return self.address + NUMBER_TYPES[self.type].size


class OneOf(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A truth that holds while a point has one of some values."""

    point: Name
    values: Annotated[tuple[int, ...], msgspec.Meta(min_length=1, max_length=64)]


class Alarm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A text that is reported while a point has one of some values."""

    text: Annotated[str, msgspec.Meta(min_length=1, max_length=80)]
    point: Name
    values: Annotated[tuple[int, ...], msgspec.Meta(min_length=1, max_length=64)]


class Meaning(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which point is which part of a reading. The power must be there; a list of powers is added up. `limit` is the limit in force, in
    the unit of the setpoint."""

    power_w: Name | Annotated[tuple[Name, ...], msgspec.Meta(min_length=1, max_length=8)]
    voltage_v: tuple[Name, ...] = ()
    limit: Name | None = None
    rated_w: Name | None = None
    soc_frac: Name | None = None
    capacity_wh: Name | None = None
    max_charge_w: Name | None = None
    max_discharge_w: Name | None = None
    energy_import_wh: Name | None = None
    energy_export_wh: Name | None = None
    connected: OneOf | None = None
    power_is_zero_while: OneOf | None = None
    alarms: tuple[Alarm, ...] = ()

    def points(self) -> list[tuple[str, str]]:
        """Every (place in the file, point) that is referred to."""
        found: list[tuple[str, str]] = []
        for field in self.__struct_fields__:
            value = getattr(self, field)
            if isinstance(value, str):
                found.append((field, value))
            elif isinstance(value, OneOf):
                found.append((field, value.point))
            elif field == "alarms":
                found.extend((field, alarm.point) for alarm in value)
            elif isinstance(value, tuple):
                found.extend((field, name) for name in value)
        return found


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One device type. `document` is the vendor's document with version and date; `unit` its usual Modbus unit."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9-]+$", max_length=40)]
    title: Annotated[str, msgspec.Meta(min_length=1, max_length=120)]
    document: Annotated[str, msgspec.Meta(min_length=1, max_length=300)]
    kind: DeviceKind
    unit: Annotated[int, msgspec.Meta(ge=0, le=255)] = 1
    notes: tuple[str, ...] = ()
    read: Annotated[tuple[Read, ...], msgspec.Meta(min_length=1, max_length=32)]
    point: Annotated[tuple[PointEntry, ...], msgspec.Meta(min_length=1, max_length=256)]
    means: Meaning
    control: Control | None = None
    watchdog: Watchdog | None = None


def shipped_profiles() -> list[str]:
    """Names of the profiles that come with the edge."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


@functools.lru_cache(maxsize=64)
def load_profile(name_or_path: str) -> Profile:
    """A validated profile, by its shipped name or by the path of a file; `ProfileError` is one line with file, place and reason."""
    path = SHIPPED / f"{name_or_path}.toml"
    if not path.is_file():
        path = pathlib.Path(name_or_path)
        if not path.is_file():
            raise ProfileError(f"no register-map profile {name_or_path}: expected a file or one of {', '.join(shipped_profiles())}")
    return parse_profile(path.read_bytes(), path.name)


def parse_profile(content: bytes, file: str) -> Profile:
    """A validated profile from the bytes of its file."""
    try:
        profile = decode_toml(content, Profile)
    except DocumentRefused as refusal:
        raise ProfileError(f"{file}: {refusal}") from refusal
    wrong = _contradiction(profile)
    if wrong is not None:
        raise ProfileError(f"{file}: {one_line(wrong)}")
    return profile


def _contradiction(profile: Profile) -> str | None:
    points = {point.name: point for point in profile.point}
    if len(points) < len(profile.point):
        names = [point.name for point in profile.point]
        twice = next(name for name in names if names.count(name) > 1)
        return f"two points are called {twice} - at $.point"
    for index, read in enumerate(profile.read):
        if read.address + read.count > 65536:
            return f"registers {read.address} to {read.address + read.count - 1} end behind 65535 - at $.read[{index}]"
    ordered = sorted(profile.point, key=lambda point: (point.function, point.address))
    for first, second in itertools.pairwise(ordered):
        if first.function == second.function and second.address < first.end:
            return f"points {first.name} and {second.name} overlap at register {second.address} - at $.point"
    for index, point in enumerate(profile.point):
        if point.factor == 0 or point.factor != point.factor:
            return f"the factor of {point.name} is {point.factor} - at $.point[{index}].factor"
        if not any(r.function == point.function and r.address <= point.address and point.end <= r.address + r.count for r in profile.read):
            return f"no read fetches all of point {point.name} (register {point.address} to {point.end - 1}) - at $.point[{index}]"
    for place, name in profile.means.points():
        if name not in points:
            return f"there is no point {name} - at $.means.{place}"
    powers = profile.means.power_w if isinstance(profile.means.power_w, tuple) else (profile.means.power_w,)
    for name in powers:
        if not _is_read(profile, points[name], "fast"):
            return f"the power {name} is not read at pace fast - at $.means.power_w"
    if profile.control is not None:
        return _control_contradiction(profile, profile.control)
    if profile.watchdog is not None:
        return "a watchdog needs a control - at $.watchdog"
    return None


def _control_contradiction(profile: Profile, control: Control) -> str | None:
    if not control.minimum < control.maximum:
        return f"minimum ({control.minimum:g}) must be below maximum ({control.maximum:g}) - at $.control"
    if control.function == 6 and NUMBER_TYPES[control.type].size != 1:
        return f"function 6 writes one register, {control.type} has {NUMBER_TYPES[control.type].size} - at $.control"
    if profile.kind is DeviceKind.METER:
        return "a meter takes no setpoint - at $.control"
    names = {point.name for point in profile.point}
    watchdog = profile.watchdog
    for place, name in (
        ("control.phases_point", control.phases_point),
        ("watchdog.fallback_point", None if watchdog is None else watchdog.fallback_point),
    ):
        if name is not None and name not in names:
            return f"there is no point {name} - at $.{place}"
    if not control.readback:
        return None if watchdog is not None else "a control that cannot be read back needs a watchdog - at $.control.readback"
    for start, end in control.items(watchdog):
        if not any(r.function == 3 and r.address <= start and end <= r.address + r.count for r in profile.read):
            return f"no read fetches register {start}, so what is written there could not be read back - at $.control"
    return None


def _is_read(profile: Profile, point: PointEntry, pace: str) -> bool:
    return any(
        r.pace == pace and r.function == point.function and r.address <= point.address and point.end <= r.address + r.count
        for r in profile.read
    )


def bind_profile(profile: Profile, ratings: Ratings) -> DeviceMap:
    """The map of a device of this type."""
    readable = profile.control is not None and profile.control.readback
    items = profile.control.items(profile.watchdog) if profile.control is not None and readable else []
    plans: dict[str, list[ReadPlan]] = {"fast": [], "slow": [], "rare": []}
    for read in profile.read:
        block = Block(read.address, read.count)
        fields = [
            Field(
                name=point.name,
                address=point.address,
                type=point.type,
                factor=point.factor,
                words_low_first=point.words == "low_first",
            )
            for point in profile.point
            if point.function == read.function and block.covers((point.address, point.end))
        ]
        plans[read.pace].append(read_plan(block, fields, items if read.function == 3 else (), read.function))
    control: Callable[[Setpoint, Numbers], Wanted] | None = None
    if profile.control is not None:
        control = limit_control(profile.control, profile.watchdog, profile.means.voltage_v, ratings)
    return DeviceMap(
        kind=profile.kind,
        identity=profile.title,
        capabilities=_capabilities(profile),
        fast=tuple(plans["fast"]),
        slow=tuple(plans["slow"]),
        rare=tuple(plans["rare"]),
        interpret=_interpreter(profile, ratings),
        control=control,
    )


def _interpreter(profile: Profile, ratings: Ratings) -> Callable[[str, float, Numbers], Reading]:
    means = profile.means
    powers = means.power_w if isinstance(means.power_w, tuple) else (means.power_w,)
    sign = float(ratings.meter_sign) if profile.kind is DeviceKind.METER else 1.0
    told = {
        "rated_w": (ratings.rated_w, means.rated_w),
        "soc_frac": (None, means.soc_frac),
        "capacity_wh": (ratings.capacity_wh, means.capacity_wh),
        "max_charge_w": (ratings.max_charge_w, means.max_charge_w),
        "max_discharge_w": (ratings.max_discharge_w, means.max_discharge_w),
        "energy_import_wh": (None, means.energy_import_wh),
        "energy_export_wh": (None, means.energy_export_wh),
    }
    configured = {name: number for name, (number, _) in told.items() if number is not None}
    points = [(name, point) for name, (number, point) in told.items() if number is None and point is not None]

    def holds(condition: OneOf | Alarm | None, numbers: Numbers) -> bool | None:
        number = None if condition is None else numbers.get(condition.point)
        return None if condition is None or number is None else number in condition.values

    def limit_in_force(numbers: Numbers) -> float | None:
        limit = None if means.limit is None else numbers.get(means.limit)
        if limit is None or profile.control is None:
            return None
        return limit * profile.control.watts_per_unit(numbers, means.voltage_v, ratings)

    def interpret(name: str, now_s: float, numbers: Numbers) -> Reading:
        power_w = 0.0
        for point in powers:
            part_w = numbers.get(point)
            if part_w is None:
                if holds(means.power_is_zero_while, numbers):
                    continue
                raise DeviceGarbage(f"{name}: {point} is not implemented just now (not-implemented value)")
            power_w += part_w
        voltages = tuple([v for v in map(numbers.get, means.voltage_v) if v is not None and v > 0])
        return Reading(
            name=name,
            kind=profile.kind,
            time_s=now_s,
            power_w=power_w * sign,
            voltage_v=voltages or None,
            connected=None if means.connected is None else holds(means.connected, numbers),
            limit_w=limit_in_force(numbers),
            alarms=tuple([alarm.text for alarm in means.alarms if holds(alarm, numbers)]),
            **configured,
            **{reading: numbers.get(point) for reading, point in points},
        )

    return interpret


def _capabilities(profile: Profile) -> Capabilities:
    controlled = profile.control is not None
    notes = list(profile.notes)
    if controlled and profile.watchdog is None:
        notes.append("the device has no watchdog: on loss of the controller it keeps its last setpoint")
    return Capabilities(
        measures_power=True,
        limits_generation=controlled and profile.kind is DeviceKind.PV,
        sets_power=controlled and profile.kind is DeviceKind.BATTERY,
        limits_draw=controlled and profile.kind in (DeviceKind.EV_CHARGER, DeviceKind.LOAD),
        stores_energy=profile.kind is DeviceKind.BATTERY,
        reverts=profile.watchdog is not None,
        notes=tuple(notes),
    )
