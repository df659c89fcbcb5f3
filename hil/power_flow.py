"""One network, solved again and again by power-grid-model, with the views of its arrays made once.

`PowerGridModel.update` and `calculate_power_flow` make new datasets of their arrays, new options and new results at every call; on a
street that takes three times as long as the power flow itself. The same two calls of the C interface are made here on datasets that
stay: whoever writes into the arrays of the update changes what the next `solve` solves, and the next `solve` overwrites the results.
The inner modules of the Python package are used for it, so pyproject.toml bounds its version; tests/hil/test_plant.py holds the results
against those of the public calls, bit by bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from power_grid_model import CalculationMethod, ComponentType, PowerGridModel, initialize_array
from power_grid_model._core.data_handling import prepare_output_view, prepare_update_view
from power_grid_model._core.dataset_definitions import DatasetType
from power_grid_model._core.enum import CalculationType
from power_grid_model._core.error_handling import assert_no_error
from power_grid_model._core.options import Options
from power_grid_model._core.power_grid_core import ConstDatasetPtr, get_power_grid_core

Table = npt.NDArray[np.void]
ERROR_TOLERANCE = 1e-8
MOST_ITERATIONS = 50


class RepeatedPowerFlow:
    """Three-phase power flows of one model. `update` are the arrays that change between them, `outputs` names what is to be known."""

    def __init__(
        self, tables: Mapping[ComponentType, Table], update: Mapping[ComponentType, Table], outputs: Sequence[ComponentType]
    ) -> None:
        self._model = PowerGridModel(dict(tables))
        self._update = prepare_update_view(dict(update))
        self.results = {component: initialize_array(DatasetType.asym_output, component, len(tables[component])) for component in outputs}
        self._output = prepare_output_view(dict(self.results), DatasetType.asym_output)
        self._nothing = ConstDatasetPtr()

    def solve(self, options: Options) -> bool:
        """Take the update, calculate, and leave the answer in `results`; False where there is none.

        Raises the errors of power-grid-model for an update that is wrong in itself.
        """
        core, model = get_power_grid_core(), self._model._model
        core.update_model(model, self._update.get_dataset_ptr())
        if core.error_code() != 0:
            assert_no_error()
        core.calculate(model, options.opt, output_data=self._output.get_dataset_ptr(), update_data=self._nothing)
        if core.error_code() == 0:
            return True
        core.clear_error()
        return False


def power_flow_options(method: CalculationMethod) -> Options:
    """How a power flow is to be calculated."""
    options: Any = Options()  # type: ignore[no-untyped-call]
    options.calculation_type = CalculationType.power_flow.value
    options.symmetric = False
    options.error_tolerance = ERROR_TOLERANCE
    options.max_iterations = MOST_ITERATIONS
    options.calculation_method = method.value
    options.threading = -1
    return options  # type: ignore[no-any-return]
