"""All models of the zoo."""

from __future__ import annotations

from . import (
    graphs_control_flow,
    graphs_dtypes,
    graphs_hidden_mixing,
    graphs_mixing_rows,
    graphs_outputs,
    graphs_shapes,
    graphs_structure,
    graphs_values,
)
from .classical_models import CLASSICAL
from .model import ZooModel
from .torch_modules import MODULES

GRAPHS: tuple[ZooModel, ...] = (
    *graphs_dtypes.GRAPHS,
    *graphs_values.GRAPHS,
    *graphs_shapes.GRAPHS,
    *graphs_outputs.GRAPHS,
    *graphs_mixing_rows.GRAPHS,
    *graphs_hidden_mixing.GRAPHS,
    *graphs_structure.GRAPHS,
    *graphs_control_flow.GRAPHS,
)
ZOO: tuple[ZooModel, ...] = (*GRAPHS, *CLASSICAL, *MODULES)
