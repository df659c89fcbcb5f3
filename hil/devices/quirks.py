"""The ways in which healthy devices differ from the standard and from each other."""

import msgspec


class Quirks(msgspec.Struct, frozen=True, kw_only=True):
    """What is peculiar about one device; the defaults describe a well-behaved one.

    base_address: where the marker "SunS" lies (40000, 0 or 50000). common_length: L of model 1, 65 (without the pad) or 66.
    float_models: serve 111-113 and 211-214 instead of 101-103 and 201-204.
    models: which models in which order; None takes the default chain of the device.
    autorange: the scale factors of measurements change at run time with the values.
    zeros_past_end: reading past the map gives zeros instead of exception 2. whole_models: a read across two models is refused.
    power_step_w: measured power is a multiple of this. setpoint_step_frac: limits take effect in steps of this share of the rating,
    rounded down, and read back as they took effect. refresh_s: measurements change only this often.
    export_positive: the meter shows export as positive power. response_delay_s: time from request to answer.
    rearm_on_any_write: a reversion timer starts again with every write to its control, otherwise only when the enable point is
    written (the standard leaves this open: sunspec/models issue 215). remembers_setpoints: setpoints survive a reboot.
    flash_points: points ("123.WMaxLimPct") whose writes wear the flash memory; the device counts them.
    """

    base_address: int = 40000
    common_length: int = 65
    float_models: bool = False
    models: tuple[int, ...] | None = None
    autorange: bool = False
    zeros_past_end: bool = False
    whole_models: bool = False
    power_step_w: float = 0.0
    setpoint_step_frac: float = 0.0
    refresh_s: float = 0.0
    export_positive: bool = False
    response_delay_s: float = 0.0
    rearm_on_any_write: bool = True
    remembers_setpoints: bool = False
    flash_points: frozenset[str] = frozenset()
