"""The tables of attacks on model files, and what each is tried on."""

from __future__ import annotations

from collections.abc import Mapping

from deepchip.formats.model_file import model_bytes
from tests.formats.networks import every_graph, lenet5, residual, small

from .bombs import BOMBS, PLANS, concatenations, convolutions, levels_of_each_channel, taken
from .child import Outcome
from .containers import CONTAINERS
from .forged_graphs import GRAPHS
from .forgeries import FORGERIES
from .harness import check_bounds, check_refused
from .table import Attack, Table

READ = ("decoded", "decoded_by_numba")
LOADED = ("loaded", "loaded_for_numba")
TARGETS = (*READ, *LOADED)
TABLES: Mapping[str, tuple[Table, tuple[str, ...]]] = {
    "containers": (CONTAINERS, READ[:1]),
    "forgeries": (FORGERIES, TARGETS),
    "graphs": (GRAPHS, TARGETS),
    "bombs": (BOMBS, TARGETS),
    "plans": (PLANS, LOADED),
}
"""Attacks, and functions of `targets` that each of them is given to."""

WARM = (
    *(model_bytes(graph) for graph in (small(), lenet5(), residual(), *every_graph())),
    *(convolutions(2), taken(2), concatenations(2), levels_of_each_channel()),
)
"""Honest files, for which everything is imported and compiled that attacks need."""


def check_attack(attack: Attack, outcome: Outcome, size: int) -> None:
    """Assert that what came of an attack, on a file of `size` bytes, is what its table says."""
    if attack.error is None:
        assert outcome.kind == "result", outcome
        check_bounds(outcome, size)
    else:
        check_refused(outcome, attack.error, attack.text, size)
