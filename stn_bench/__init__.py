"""stn-bench: an ablation harness that tracks every experiment.

Glossary, one word per thing:

- *ablation*: one question about a model, and the arms that answer it (`ablations/*.toml`).
- *arm*: the base configuration plus a few dotted overrides; *base*: the arm that the others are compared with.
- *study*: which ablations, on which seeds, with which tuning budget (`studies/*.toml`).
- *phase*: *tune* looks for hyperparameters, *verdict* compares the arms on seeds that tuning never saw, *confirm*
  trains the best arm of each question and its base on seeds that chose nothing.
- *look*: a planned number of seeds after which verdicts are looked at; *round*: the runs up to the next look.
- *cell*: one configuration with one seed, the unit of work; a *trial* to Optuna, a *run* to MLflow.
- *run key*: the identity of a cell: configuration, seed, pictures, code and libraries.
- *record*: a finished run as a frozen value, all that a report sees; *archive*: the records of a study as a file.
- *claim*: what somebody published about a question, and the comparison or measurement that tests it here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from stn_bench.analysis.summary import Summary
    from stn_bench.tracking.mlflow import Tracking
    from stn_bench.tracking.results import Results

__all__ = ["__version__", "runs", "summary"]
__version__ = "0.1.0"


def runs(study: str, *, root: Path | None = None, tracking_uri: str | None = None) -> pd.DataFrame:
    """Return the runs of a study, what `runs.csv` holds: one line a run, with all its settings, metrics and costs.

    Args:
        study: name of the study.
        root: folder with `studies/` and `mlruns/`; unset, the current one.
        tracking_uri: address of MLflow's store; unset, MLFLOW_TRACKING_URI or the root's own.

    Example:
        >>> stn_bench.runs("quickstart").groupby("arm")["test.accuracy"].describe()
    """
    from stn_bench.report.frames import runs_table

    return runs_table(_gather(study, root, tracking_uri)[0])


def summary(study: str, *, root: Path | None = None, tracking_uri: str | None = None) -> Summary:
    """Return the summary of a study, the object behind `report.json`; arguments as for `runs`."""
    from stn_bench.analysis.summary import summarise

    results, tracking = _gather(study, root, tracking_uri)
    return summarise(results, tracking.file)


def _gather(study: str, root: Path | None, tracking_uri: str | None) -> tuple[Results, Tracking]:
    from stn_bench.study.catalogue import load
    from stn_bench.study.plan import make_plan
    from stn_bench.study.preregistration import with_frozen
    from stn_bench.system.workspace import Workspace
    from stn_bench.tracking.mlflow import Tracking
    from stn_bench.tracking.results import gather

    workspace = Workspace.at(root, tracking_uri)
    plan = with_frozen(make_plan(*load(workspace.root, study)), workspace.root)
    tracking = Tracking(workspace.tracking, workspace.artifacts, workspace.lock("tracking"))
    return gather(plan, tracking, workspace.datasets), tracking
