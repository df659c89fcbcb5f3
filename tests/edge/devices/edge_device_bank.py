"""A bank of registers with the face of a Modbus client, and SunSpec maps encoded by the `sunspec2` package, not by the edge."""

from collections.abc import Callable, Sequence

import sunspec2.device

from edge.devices.driver import RegisterDevice
from edge.devices.registry import DeviceConfig, open_device
from edge.errors import DeviceError, DeviceRefused, DeviceTimeout
from edge.values import DeviceKind, Setpoint

SUNS = [0x5375, 0x6E53]
IDENTITY = {"Mn": "Acme", "Md": "Inverter 5", "Vr": "1.2", "SN": "0815"}


class Bank:
    """Registers of one unit. `refused` addresses answer exception 2, `silent` makes every request time out."""

    def __init__(self, registers: dict[int, int]) -> None:
        self.registers = registers
        self.inputs: dict[int, int] = {}
        self.reads: list[tuple[int, int]] = []
        self.writes: list[tuple[int, tuple[int, ...]]] = []
        self.silent = False
        self.short = 0
        self.ignore_writes = False
        self.lose_acknowledgement = False
        self.on_write: Callable[[int, Sequence[int]], None] | None = None
        self.closed = False

    async def read_holding(self, unit: int, address: int, count: int) -> tuple[int, ...]:
        return self._read(self.registers, address, count)

    async def read_input(self, unit: int, address: int, count: int) -> tuple[int, ...]:
        return self._read(self.inputs, address, count)

    async def write_holding(self, unit: int, address: int, values: Sequence[int]) -> None:
        if self.silent:
            raise DeviceTimeout("silent")
        if any(address + i not in self.registers for i in range(len(values))):
            raise DeviceRefused("exception 2", exception_code=2)
        self.writes.append((address, tuple(values)))
        if not self.ignore_writes:
            self.registers.update(enumerate(values, address))
        if self.on_write is not None:
            self.on_write(address, values)
        if self.lose_acknowledgement:
            raise DeviceTimeout("no acknowledgement")

    async def write_single(self, unit: int, address: int, value: int) -> None:
        await self.write_holding(unit, address, [value])

    async def close(self) -> None:
        self.closed = True

    def _read(self, bank: dict[int, int], address: int, count: int) -> tuple[int, ...]:
        self.reads.append((address, count))
        if self.silent:
            raise DeviceTimeout("silent")
        if any(a not in bank for a in range(address, address + count)):
            raise DeviceRefused("exception 2", exception_code=2)
        return tuple(bank[a] for a in range(address, address + count - self.short))


def words(data: bytes) -> list[int]:
    return [int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2)]


def model_registers(model_id: int, values: dict[str, object], *, length: int | None = None) -> list[int]:
    """A model encoded by sunspec2: plain names are raw values, names with `=` computed ones; the rest is not implemented."""
    template = sunspec2.device.Model(model_id)
    unit = template.gdef
    size = sum(p["size"] for p in unit["points"])
    groups = [g for g in unit.get("groups", []) if g.get("count", 1) == 1]
    size += sum(p["size"] for g in groups for p in g["points"])
    blank = bytearray(b"".join(_missing(p) for p in unit["points"]) + b"".join(_missing(p) for g in groups for p in g["points"]))
    blank[0:4] = model_id.to_bytes(2, "big") + (size - 2).to_bytes(2, "big")
    model = sunspec2.device.Model(model_id, data=bytes(blank))
    scales = {name: value for name, value in values.items() if name.endswith("_SF")}
    for name, value in {**scales, **values}.items():
        point = model.points[name.rstrip("=")]
        if name.endswith("="):
            point.cvalue = value
        else:
            point.value = value
    registers = words(model.get_mb())
    assert len(registers) == size
    if length is not None:
        registers = registers[: length + 2]
        registers[1] = length
    return registers


def _missing(point: dict[str, object]) -> bytes:
    size = int(point["size"])  # type: ignore[call-overload]
    kind = str(point["type"])
    if kind in ("int16", "sunssf", "int32", "int64", "pad"):
        return b"\x80\x00" + b"\x00" * (2 * size - 2)
    if kind == "float32":
        return b"\x7f\xc0\x00\x00"
    if kind in ("string", "acc32", "acc64"):
        return b"\x00" * (2 * size)
    return b"\xff" * (2 * size)


def sunspec_bank(*models: list[int], base: int = 40000, common_length: int = 65) -> Bank:
    """A device with a Common Model in front of the given ones and the end marker behind."""
    registers = [*SUNS, *model_registers(1, IDENTITY, length=common_length)]
    for model in models:
        registers += model
    return Bank(dict(enumerate([*registers, 0xFFFF, 0], base)))


def place(bank: Bank, model_id: int, base: int = 40000) -> int:
    """The register where a model begins."""
    address = base + 2
    while bank.registers[address] != 0xFFFF:
        if bank.registers[address] == model_id:
            return address
        address += 2 + bank.registers[address + 1]
    raise AssertionError(f"no model {model_id}")


def parsed(bank: Bank, model_id: int) -> sunspec2.device.Model:
    """A model as sunspec2 reads it from the bank."""
    start = place(bank, model_id)
    data = b"".join(bank.registers[a].to_bytes(2, "big") for a in range(start, start + bank.registers[start + 1] + 2))
    return sunspec2.device.Model(model_id, data=data)


def poke(bank: Bank, model_id: int, point: str, raw: int) -> None:
    """Set a 16-bit point, as the device itself or somebody else does."""
    offset = sunspec2.device.Model(model_id).points[point].offset
    bank.registers[place(bank, model_id) + offset] = raw & 0xFFFF


def device_on(bank: Bank, kind: DeviceKind, **config: object) -> RegisterDevice:
    """The driver of one device on a bank."""
    settings = DeviceConfig(name="dev", kind=kind, host="bank", **config)  # type: ignore[arg-type]
    return open_device(settings, lambda _: bank)


async def failure(awaitable: object) -> DeviceError:
    """The device error that an awaitable ends with."""
    try:
        await awaitable  # type: ignore[misc]
    except DeviceError as error:
        return error
    raise AssertionError("expected a DeviceError")


AC_103 = {"A_SF": -2, "V_SF": -1, "W_SF": 0, "Hz_SF": -2, "WH_SF": 0, "Tmp_SF": 0, "W": 3000, "St": 4, "WH": 1234567, "Evt1": 0}
AC_103 |= {"PhVphA": 2301, "PhVphB": 2312, "PhVphC": 2299}
RATING_120 = {"DERTyp": 4, "WRtg": 5000, "WRtg_SF": 0}
SETTINGS_121 = {"WMax": 5000, "WMax_SF": 0}
CONTROL_123 = {"Conn": 1, "WMaxLimPct": 10000, "WMaxLimPct_RvrtTms": 0, "WMaxLim_Ena": 0, "WMaxLimPct_SF": -2}
CONTROL_123 |= {"WMaxLimPct_WinTms": 0, "WMaxLimPct_RmpTms": 0}
AC_701 = {"ACType": 2, "InvSt": 3, "ConnSt": 1, "Alrm": 0, "W": 3000, "W_SF": 0, "VL1": 2301, "V_SF": -1, "TotWhInj": 99, "TotWh_SF": 0}
CAPACITY_702 = {"WMaxRtg": 6000, "WMax": 5000, "WChaRteMax": 4000, "WDisChaRteMax": 4500, "W_SF": 0}
CONTROL_704 = {
    "WMaxLimPctEna": 0,
    "WMaxLimPct": 1000,
    "WMaxLimPctRvrt": 1000,
    "WMaxLimPctEnaRvrt": 0,
    "WMaxLimPctRvrtTms": 0,
    "WMaxLimPct_SF": -1,
    "WSetEna": 0,
    "WSetMod": 1,
    "WSet": 0,
    "WSetRvrt": 0,
    "WSetPct": 0,
    "WSetPctRvrt": 0,
    "WSetEnaRvrt": 0,
    "WSetRvrtTms": 0,
    "WSet_SF": 0,
    "WSetPct_SF": -1,
}
STORAGE_713 = {"WHRtg": 1000, "WHAvail": 500, "SoC": 505, "SoH": 990, "Sta": 0, "WH_SF": 1, "Pct_SF": -1}
BANK_802 = {"WHRtg": 10000, "WHRtg_SF": 0, "WChaRteMax": 4000, "WDisChaRteMax": 4500, "WChaDisChaMax_SF": 0, "SoC": 40, "SoC_SF": 0}
BANK_802 |= {"LocRemCtl": 0, "Evt1": 0, "W": -700, "W_SF": 0, "State": 3}
LEGACY_124 = {"WChaMax": 4000, "WChaMax_SF": 0, "StorCtl_Mod": 0, "ChaState": 6000, "ChaState_SF": -2, "OutWRte": 10000, "InWRte": 10000}
LEGACY_124 |= {"InOutWRte_RvrtTms": 0, "InOutWRte_SF": -2, "ChaGriSet": 0, "InOutWRte_WinTms": 0, "InOutWRte_RmpTms": 0}


def pv_103() -> Bank:
    """A PV inverter of the older models."""
    return sunspec_bank(
        model_registers(103, AC_103),
        model_registers(120, RATING_120),
        model_registers(121, SETTINGS_121),
        model_registers(122, {"PVConn": 7}),
        model_registers(123, CONTROL_123),
    )


def pv_701() -> Bank:
    """A PV inverter of the IEEE 1547 models."""
    return sunspec_bank(model_registers(701, AC_701), model_registers(702, CAPACITY_702), model_registers(704, CONTROL_704))


def battery_701() -> Bank:
    """A battery inverter of the IEEE 1547 models."""
    return sunspec_bank(
        model_registers(701, {**AC_701, "W": -1500}),
        model_registers(702, CAPACITY_702),
        model_registers(704, CONTROL_704),
        model_registers(713, STORAGE_713),
    )


def battery_124() -> Bank:
    """A battery inverter of the older models."""
    return sunspec_bank(
        model_registers(103, {**AC_103, "W": -1500}),
        model_registers(120, {**RATING_120, "MaxChaRte": 4000, "MaxChaRte_SF": 0, "MaxDisChaRte": 5000, "MaxDisChaRte_SF": 0}),
        model_registers(124, LEGACY_124),
    )


def pv(limit_w: float | None, *, revert_w: float | None = None, after_s: float | None = None) -> Setpoint:
    """What a PV system is asked to keep to."""
    return Setpoint(name="dev", kind=DeviceKind.PV, limit_w=limit_w, revert_limit_w=revert_w, revert_after_s=after_s)


def battery(power_w: float | None, *, revert_w: float | None = None, after_s: float | None = None) -> Setpoint:
    """What a battery is asked to do."""
    return Setpoint(name="dev", kind=DeviceKind.BATTERY, power_w=power_w, revert_power_w=revert_w, revert_after_s=after_s)
