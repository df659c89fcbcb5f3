"""From configuration to device: what cannot be meant is refused in one line, and nothing is asked of a device before its first read."""

import msgspec
import pytest
from edge_device_bank import pv_103

from edge.devices.registry import DeviceConfig, ModbusSessions, check_device, open_device
from edge.errors import ConfigurationError
from edge.values import DeviceKind

GOOD = {"name": "pv", "kind": "pv", "host": "10.0.0.5"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"host": None}, "exactly one of host and serial_port"),
        ({"serial_port": "/dev/ttyUSB0"}, "exactly one of host and serial_port"),
        ({"family": "profile"}, "needs the name of a profile"),
        ({"profile": "keba-p30"}, "but family is sunspec"),
        ({"family": "profile", "profile": "keba-p30"}, "is for a device of kind ev_charger, not pv"),
        ({"family": "profile", "profile": "nowhere.toml"}, "no register-map profile nowhere.toml"),
        ({"kind": "ev_charger"}, "SunSpec has no model for a device of kind ev_charger"),
    ],
)
def test_a_configuration_that_contradicts_itself_is_one_line(change: dict[str, object], reason: str) -> None:
    config = msgspec.convert({**GOOD, **change}, DeviceConfig)
    wrong = check_device(config)
    assert wrong is not None and reason in wrong and "\n" not in wrong
    with pytest.raises(ConfigurationError):
        open_device(config, lambda _: pv_103())


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"port": 0}, "$.port"),
        ({"unit": 256}, "$.unit"),
        ({"rated_w": -5}, "$.rated_w"),
        ({"name": "a b"}, "$.name"),
        ({"meter_sign": 0}, "$.meter_sign"),
        ({"bases": []}, "$.bases"),
        ({"timeout_s": float("nan")}, "$.timeout_s"),
        ({"kind": "windmill"}, "$.kind"),
        ({"hots": "10.0.0.5"}, "unknown field"),
    ],
)
def test_a_number_out_of_its_bounds_is_named_with_its_place(change: dict[str, object], place: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert({**GOOD, **change}, DeviceConfig)
    assert place in str(caught.value)


def test_opening_a_device_asks_nothing_of_it() -> None:
    bank = pv_103()
    device = open_device(msgspec.convert(GOOD, DeviceConfig), lambda _: bank)
    assert device.name == "pv" and device.kind is DeviceKind.PV and bank.reads == []


async def test_sessions_are_shared_by_endpoint_and_not_between_endpoints() -> None:
    sessions = ModbusSessions()
    one, two = msgspec.convert(GOOD, DeviceConfig), msgspec.convert({**GOOD, "name": "battery", "kind": "battery", "unit": 2}, DeviceConfig)
    other = msgspec.convert({**GOOD, "name": "x", "host": "10.0.0.6"}, DeviceConfig)
    serial = msgspec.convert({"name": "m", "kind": "meter", "serial_port": "/dev/ttyUSB0"}, DeviceConfig)
    clients = [sessions(config) for config in (one, two, other, serial)]
    endpoints = [client.endpoint for client in clients]  # type: ignore[attr-defined]
    assert endpoints[0] is endpoints[1] and len({id(endpoint) for endpoint in endpoints}) == 3
    assert [endpoint.where for endpoint in endpoints] == ["10.0.0.5:502", "10.0.0.5:502", "10.0.0.6:502", "/dev/ttyUSB0"]


async def test_a_profile_knows_the_usual_unit_of_its_device() -> None:
    units: list[int] = []

    class Listening:
        async def read_holding(self, unit: int, address: int, count: int) -> tuple[int, ...]:
            units.append(unit)
            return (0,) * count

        async def write_holding(self, unit: int, address: int, values: object) -> None: ...

        async def close(self) -> None: ...

    keba = {"name": "ev", "kind": "ev_charger", "family": "profile", "profile": "keba-p30", "host": "10.0.0.7"}
    for config in (keba, {**keba, "unit": 3}):
        await open_device(msgspec.convert(config, DeviceConfig), lambda _: Listening()).read(0.0)  # type: ignore[arg-type,return-value]
    assert set(units) == {255, 3}
