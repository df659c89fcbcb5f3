"""One household's controller: devices, forecast, schedule, limits, safety and the control cycle."""
