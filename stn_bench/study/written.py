"""Studies and ablations written in code: what their files would hold, so that they are read as files are."""

from __future__ import annotations

from typing import Any

from stn_bench.study.metrics import file_of
from stn_bench.study.spec import BASE, Ablation, Study, Written
from stn_bench.study.toml import check_tree
from stn_bench.system.errors import CatalogueError
from stn_bench.system.text import EXPECTED, is_name, shorten


def called(written: Written) -> str:
    """Return what a message calls a study or an ablation that is in no file."""
    return f"{type(written).__name__} `{shorten(written.name)}`"


def place_in_code(study: Study, ablation: Ablation | None = None) -> str:
    """Return where a message finds an ablation of a study, or the study itself, that was written in code."""
    if ablation is None:
        return called(study)
    return called(ablation) if ablation.name in study.given else file_of(study, ablation)


def tree_of(written: Written) -> dict[str, Any]:
    """Return what the file of a study or an ablation would hold, with the checks of a file.

    Raises:
        CatalogueError: if a file could not hold it, or not under its name.
    """
    where, tree = called(written), written.tree()
    if not is_name(written.name) or written.name == BASE:
        raise CatalogueError(f"{where}: expected {EXPECTED}, other than `{BASE}`")
    check_tree(tree, where)
    return tree
