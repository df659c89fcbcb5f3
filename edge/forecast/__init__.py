"""What the household will probably draw and its panels probably give: quantiles, calibrated online, with the coverage that was
measured.
"""

from edge.forecast.forecaster import Forecaster
from edge.forecast.values import Coverage, QuantileForecast

__all__ = ["Coverage", "Forecaster", "QuantileForecast"]
