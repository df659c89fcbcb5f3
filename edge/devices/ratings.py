"""What the configuration of a device knows better than the device."""

import msgspec


class Ratings(msgspec.Struct, frozen=True, kw_only=True):
    """`None` leaves a rating to the device. `meter_sign` -1 turns a meter round; `phases` is how many phases a charger uses."""

    rated_w: float | None = None
    capacity_wh: float | None = None
    max_charge_w: float | None = None
    max_discharge_w: float | None = None
    meter_sign: int = 1
    phases: int | None = None
