"""From the configuration of a device to a device.

`open_device` performs no request: a device that is switched off at start-up must not keep the edge from starting. `ModbusSessions` is
the client factory of a deployed edge: one session per endpoint, shared by all units behind it. The bench passes its own factory.
"""

import functools
from collections.abc import Callable
from typing import Annotated, Literal

import msgspec

from edge.devices.driver import Pace, RegisterDevice
from edge.devices.mapping import DeviceMap
from edge.devices.profile import Profile, bind_profile, load_profile
from edge.devices.ratings import Ratings
from edge.devices.sunspec.fields import survey
from edge.devices.sunspec.roles import bind
from edge.devices.transport import RegisterClient, SerialLine, TransportOptions
from edge.errors import ConfigurationError, EdgeError
from edge.values import DeviceKind

PositiveW = Annotated[float, msgspec.Meta(gt=0, le=10e6)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86400)]


class DeviceConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One device of a household.

    It is reached at `host` and `port` (Modbus TCP, or RTU frames over TCP with `framing = "rtu"`) or at `serial_port`. The family is
    `sunspec`, which needs nothing else, or `profile` with the name of a shipped profile or the path of a TOML file. `meter_sign` is -1
    for a meter that counts export as positive: compare with a known load at commissioning. The ratings replace what the device says.
    Without `unit` it is 1 for SunSpec and the vendor's for a profile. `heartbeat` is for devices that watch ControllerHb of model 715 or
    CtrlHb of model 802: it costs one more write in each cycle.
    """

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
    kind: DeviceKind
    family: Literal["sunspec", "profile"] = "sunspec"
    profile: str | None = None
    host: str | None = None
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 502
    framing: Literal["tcp", "rtu"] = "tcp"
    serial_port: str | None = None
    baud: Annotated[int, msgspec.Meta(ge=300, le=4_000_000)] = 9600
    parity: Literal["N", "E", "O"] = "N"
    stop_bits: Literal[1, 2] = 1
    unit: Annotated[int, msgspec.Meta(ge=0, le=255)] | None = None
    bases: Annotated[tuple[Annotated[int, msgspec.Meta(ge=0, le=65500)], ...], msgspec.Meta(min_length=1, max_length=8)] = (
        40000,
        0,
        50000,
    )
    rated_w: PositiveW | None = None
    capacity_wh: Annotated[float, msgspec.Meta(gt=0, le=100e6)] | None = None
    max_charge_w: PositiveW | None = None
    max_discharge_w: PositiveW | None = None
    meter_sign: Literal[1, -1] = 1
    phases: Literal[1, 2, 3] | None = None
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 1.0
    retries: Annotated[int, msgspec.Meta(ge=0, le=5)] = 1
    gap_s: Annotated[float, msgspec.Meta(ge=0, le=5)] = 0.0
    backoff_s: Annotated[float, msgspec.Meta(ge=0, le=600)] = 0.5
    backoff_max_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 30.0
    slow_s: Seconds = 30.0
    readback_s: Seconds = 5.0
    rare_s: Seconds = 900.0
    writes_per_day: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] = 200_000
    heartbeat: bool = False
    wearing_writes_per_day: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 200

    def endpoint(self) -> str:
        """Which session the device uses: devices with the same endpoint share it."""
        return self.serial_port if self.serial_port is not None else f"{self.host}:{self.port}"


ClientFactory = Callable[[DeviceConfig], RegisterClient]


def check_device(config: DeviceConfig) -> str | None:
    """What is wrong with a device configuration beyond its types, in one line; `None` when nothing is."""
    if (config.host is None) == (config.serial_port is None):
        return f"device {config.name}: exactly one of host and serial_port must be given"
    if config.family == "profile" and config.profile is None:
        return f"device {config.name}: family profile needs the name of a profile"
    if config.family == "sunspec" and config.profile is not None:
        return f"device {config.name}: profile {config.profile} is given, but family is sunspec"
    if config.family == "sunspec" and config.kind in (DeviceKind.EV_CHARGER, DeviceKind.LOAD):
        return f"device {config.name}: SunSpec has no model for a device of kind {config.kind}, use family profile"
    if config.family == "profile" and config.heartbeat:
        return f"device {config.name}: heartbeat is for family sunspec, a profile has its own watchdog"
    if config.family == "profile":
        try:
            profile = load_profile(config.profile or "")
        except EdgeError as error:
            return f"device {config.name}: {error}"
        if profile.kind is not config.kind:
            return f"device {config.name}: profile {profile.name} is for a device of kind {profile.kind}, not {config.kind}"
    return None


def open_device(config: DeviceConfig, client_factory: ClientFactory) -> RegisterDevice:
    """A device that will be found on its first read; `ConfigurationError` when the configuration cannot be meant."""
    wrong = check_device(config)
    if wrong is not None:
        raise ConfigurationError(wrong)
    client = client_factory(config)
    pace = Pace(
        slow_s=config.slow_s,
        readback_s=config.readback_s,
        rare_s=config.rare_s,
        writes_per_day=config.writes_per_day,
        wearing_writes_per_day=config.wearing_writes_per_day,
    )
    ratings = Ratings(
        rated_w=config.rated_w,
        capacity_wh=config.capacity_wh,
        max_charge_w=config.max_charge_w,
        max_discharge_w=config.max_discharge_w,
        meter_sign=config.meter_sign,
        phases=config.phases,
    )
    if config.family == "profile":
        profile = load_profile(config.profile or "")
        unit = profile.unit if config.unit is None else config.unit
        find = functools.partial(_from_profile, profile=profile, ratings=ratings)
    else:
        unit = 1 if config.unit is None else config.unit
        find = functools.partial(_from_sunspec, config=config, ratings=ratings)
    return RegisterDevice(config.name, config.kind, client, unit, find, pace, heartbeat=config.heartbeat)


async def _from_sunspec(client: RegisterClient, unit: int, *, config: DeviceConfig, ratings: Ratings) -> DeviceMap:
    found = await survey(client, unit, config.bases)
    return bind(found.device, found, config.kind, ratings)


async def _from_profile(client: RegisterClient, unit: int, *, profile: Profile, ratings: Ratings) -> DeviceMap:
    return bind_profile(profile, ratings)


class ModbusSessions:
    """A client factory over real connections; devices of one endpoint share one session."""

    def __init__(self, monotonic_s: Callable[[], float] | None = None) -> None:
        self._clients: dict[str, RegisterClient] = {}
        self._monotonic_s = monotonic_s

    def __call__(self, config: DeviceConfig) -> RegisterClient:
        """The client for a device; imports the Modbus stack only when the first one is needed."""
        from edge.devices.modbus import ModbusClient, ModbusRtuClient, ModbusTcpClient

        options = TransportOptions(
            timeout_s=config.timeout_s,
            retries=config.retries,
            gap_s=config.gap_s,
            late_s=config.timeout_s,
            backoff_s=config.backoff_s,
            backoff_max_s=config.backoff_max_s,
        )
        key = config.endpoint()
        shared = self._clients.get(key)
        if isinstance(shared, ModbusClient):
            client: RegisterClient = ModbusClient(shared.endpoint)
        elif config.serial_port is not None:
            line = SerialLine(port=config.serial_port, baud=config.baud, parity=config.parity, stop_bits=config.stop_bits)
            client = ModbusRtuClient(line, options=options, monotonic_s=self._monotonic_s)
        else:
            assert config.host is not None
            client = ModbusTcpClient(config.host, config.port, framing=config.framing, options=options, monotonic_s=self._monotonic_s)
        self._clients.setdefault(key, client)
        return client
