"""stn-bench: an ablation harness that tracks every experiment.

Glossary, one word per thing:

- *subject*: something that can be trained: its settings, and a function from settings and a seed to metrics.
- *ablation*: one question about a subject, and the arms that answer it (`ablations/*.toml`).
- *arm*: the base settings plus a few dotted overrides; *base*: the arm that the others are compared with.
- *study*: which ablations of which subject, on which seeds, with which tuning budget (`studies/*.toml`).
- *phase*: *tune* looks for hyperparameters, *verdict* compares the arms on seeds that tuning never saw, *confirm*
  trains the best arm of each question and its base on seeds that chose nothing.
- *interim look*: a planned number of seeds after which verdicts are looked at; *round*: the runs up to the next look.
- *job*: settings and a seed to train, the unit of work; a *trial* to Optuna, a *run* to MLflow. A worker that trains
  it holds its *lease*.
- *run key*: the identity of a run: settings, seed, data, code and libraries.
- *record*: a finished run as a frozen value, all that a report sees; *archive*: the records of a study as a file.
- *analysis*: all that may be said of a study's results, worked out once.
- *claim*: what somebody published about a question, and the comparison or measurement that tests it here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from stn_bench.analysis.analyse import Analysis
    from stn_bench.analysis.summary import Summary
    from stn_bench.report.judging import Judged
    from stn_bench.tracking.mlflow import Tracking

__all__ = ["__version__", "judge", "runs", "summary"]
__version__ = "0.1.0"


def runs(study: str, *, root: Path | str | None = None, tracking_uri: str | None = None) -> pd.DataFrame:
    """Return the runs of a study, what `runs.csv` holds: one line a run, with all its settings, metrics and costs.

    Args:
        study: name of the study.
        root: folder with `studies/` and `mlruns/`; unset, the current one.
        tracking_uri: address of MLflow's store; unset, MLFLOW_TRACKING_URI or the root's own.

    Example:
        >>> stn_bench.runs("quickstart").groupby("arm")["test.accuracy"].describe()
    """
    from stn_bench.report.frames import runs_table

    return runs_table(_analyse(study, root, tracking_uri)[0].results)


def summary(study: str, *, root: Path | str | None = None, tracking_uri: str | None = None) -> Summary:
    """Return the summary of a study, the object behind `report.json`; arguments as for `runs`."""
    from stn_bench.analysis.summarise import summarise

    analysis, tracking = _analyse(study, root, tracking_uri)
    return summarise(analysis, tracking.file)


def judge(frame: pd.DataFrame | Path | str, **options: Any) -> Judged:
    """Return what may be said of results that exist: the verdicts on a table of anybody's runs; nothing is trained.

    The result has `verdicts` and `runs` (DataFrames), `summary`, `figures()`, `write(folder)`; a notebook shows it.

    Args:
        frame: the runs, one a row, or with a column for each arm and a row for each seed; or a CSV file of them.
        options: `arm`, `seed`, `metric`, `base`, `question` and `dataset` name columns, or the base; those left out
            are guessed where that is plain. `wide`, `direction`, `margin`, `looks`, `resolution`, `max_failed` and
            `family` are as on the command line; `metric`, `direction` and `margin` may be lists.

    Example:
        >>> stn_bench.judge(frame, arm="method", metric="acc", base="resnet").verdicts
    """
    from stn_bench.report.judging import judge_frame

    return judge_frame(frame, **options)


def _analyse(study: str, root: Path | str | None, tracking_uri: str | None) -> tuple[Analysis, Tracking]:
    from stn_bench.analysis.analyse import analyse
    from stn_bench.runner.stores import open_tracking
    from stn_bench.study.load import load_plan
    from stn_bench.system.workspace import Workspace
    from stn_bench.tracking.results import gather

    workspace = Workspace.at(None if root is None else Path(root), tracking_uri)
    tracking = open_tracking(workspace)
    return analyse(gather(load_plan(study, workspace), tracking, workspace.datasets)), tracking
