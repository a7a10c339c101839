"""stn-bench: an ablation harness that tracks every experiment.

From Python, `run` trains a study and judges it, `results` judges what is finished of one, `judge` results that exist;
`runs` and `summary` are parts of `results`. A study is named, or written as `Study`, `Ablation` and `Arm`.

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

import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stn_bench.study.arguments import checked

if TYPE_CHECKING:
    import pandas as pd

    from stn_bench.analysis.summary import Summary
    from stn_bench.report.judged import Judged
    from stn_bench.report.judging import JudgedTable
    from stn_bench.study.plan import Plan
    from stn_bench.study.spec import Ablation, Arm, Study
    from stn_bench.system.errors import StnBenchError
    from stn_bench.system.workspace import Workspace

__all__ = [
    "Ablation",
    "Arm",
    "StnBenchError",
    "Study",
    "__version__",
    "judge",
    "results",
    "run",
    "runs",
    "summary",
]
__version__ = "0.1.0"

_WRITTEN = ("Ablation", "Arm", "Study")


def __getattr__(name: str) -> Any:
    """Return what is imported when it is first asked for, so that importing the package takes no time."""
    if name in _WRITTEN:
        from stn_bench.study import spec

        return getattr(spec, name)
    if name == "StnBenchError":
        from stn_bench.system.errors import StnBenchError

        return StnBenchError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


@checked
def run(
    study: str | Study,
    *,
    root: Path | str | None = None,
    tracking_uri: str | None = None,
    storage: str | None = None,
    settings: Mapping[str, Any] | None = None,
    workers: int | None = None,
    threads: int | None = None,
    confirm: bool = False,
    accept_stale: bool = False,
    progress: bool = True,
) -> Judged:
    """Train what is not trained yet of a study, write its report, and return what may be said: `stn-bench run`.

    Stopped by Ctrl-C, or by an error, the same call goes on where it was. The workers are processes of their own: they
    import the subject from its module, and never run the script or the notebook that calls this again.

    Args:
        study: a study, or the name of its file.
        root: folder with `ablations/`, `studies/`, `mlruns/` and `reports/`; unset, the current one.
        tracking_uri: address of MLflow's store; unset, MLFLOW_TRACKING_URI or the root's own.
        storage: address of Optuna's store, the job queue; unset, STN_BENCH_OPTUNA_URL or the root's own.
        settings: overrides of settings in every arm, by dotted path.
        workers: processes that train; unset, one a core.
        threads: threads in each worker; unset, the cores, shared out.
        confirm: then train the best arm of each question on the study's fresh seeds.
        accept_stale: keep runs that other code or library versions trained.
        progress: tell of the progress on standard error.

    Returns:
        `verdicts`, `runs` and `curves` (DataFrames), `summary`, `figures()` (matplotlib figures by name), `report`
        (the page that was written), `missing` (runs that did not finish), `write(folder)`. A notebook shows it.

    Raises:
        StnBenchError: in one line, if the study, its subject, the machine or a store cannot be used.
        KeyboardInterrupt: after Ctrl-C, once the epochs have ended; after a second one at once.
        SystemExit: with code 143 after SIGTERM, 129 after the hang-up of a terminal, in the same way. Handlers of
            your own are put back before; only the main thread hears signals.

    Example:
        >>> result = stn_bench.run("waves", workers=2)
        >>> result.verdicts[["name", "difference", "verdict"]]
    """
    from stn_bench.report.build import keep_report
    from stn_bench.report.judged import Judged
    from stn_bench.runner.progress import progress_of
    from stn_bench.runner.runner import train_study
    from stn_bench.runner.settled import Settled
    from stn_bench.runner.shares import share_out
    from stn_bench.runner.stores import borrowing_mlflow
    from stn_bench.study.calibration import calibrated
    from stn_bench.study.load import check_runnable
    from stn_bench.system.errors import Interrupted
    from stn_bench.tracking.results import as_read

    plan, workspace = _load(study, root, tracking_uri, settings, storage)
    plan = as_read(plan, workspace.datasets)
    shared_out = share_out(plan, workers, threads)
    check_runnable(plan, study, confirm=confirm)
    plan = calibrated(plan, workspace.root)
    settled = Settled.of(plan, workspace, confirm=confirm)
    if found := None if accept_stale else settled.look():
        return Judged(analyses=(found[0],), artifact=found[1].file, report=workspace.page(plan.study.name))
    with borrowing_mlflow(), progress_of(plan.study.name, plan.subject, is_shown=progress) as watcher:
        try:
            analysis, tracking = train_study(
                plan, workspace, shared_out, watcher, confirm=confirm, accept_stale=accept_stale
            )
        except Interrupted as stop:
            told = "stopped; what was finished is kept, and the same call goes on from here"
            if stop.signum == signal.SIGINT:
                raise KeyboardInterrupt(told) from None
            watcher.say(told)
            raise SystemExit(stop.exit_code) from None
        page, *_ = keep_report(analysis, workspace.report(plan.study.name), tracking, logs=workspace.logs)
        settled.note(analysis)
        if missing := analysis.unfinished(confirm):
            watcher.say(
                f"{missing} runs did not finish; {page} and {workspace.logs} say why; run it again to try them"
            )
    return Judged(analyses=(analysis,), artifact=tracking.file, report=page)


@checked
def results(
    study: str | Study,
    *,
    root: Path | str | None = None,
    tracking_uri: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Judged:
    """Return what may be said of what is finished of a study, as `run` does; nothing is trained or written.

    Arguments as for `run`.

    Example:
        >>> stn_bench.results("quickstart").figures()["verdicts"].savefig("verdicts.pdf")
    """
    from stn_bench.analysis.analyse import analyse, nothing_finished
    from stn_bench.report.judged import Judged
    from stn_bench.runner.stores import analyse_stored, borrowing_mlflow

    plan, workspace = _load(study, root, tracking_uri, settings)
    if not workspace.has_tracking:
        return Judged(analyses=(analyse(nothing_finished(plan)),))
    with borrowing_mlflow():
        analysis, tracking = analyse_stored(plan, workspace)
    return Judged(analyses=(analysis,), artifact=tracking.file)


@checked
def runs(study: str | Study, *, root: Path | str | None = None, tracking_uri: str | None = None) -> pd.DataFrame:
    """Return the runs of a study, what `runs.csv` holds: one line a run, with all its settings, metrics and costs.

    Arguments as for `run`.

    Example:
        >>> stn_bench.runs("quickstart").groupby("arm")["test.accuracy"].describe()
    """
    return results(study, root=root, tracking_uri=tracking_uri).runs


@checked
def summary(study: str | Study, *, root: Path | str | None = None, tracking_uri: str | None = None) -> Summary:
    """Return the summary of a study, the object behind `report.json`; arguments as for `run`."""
    return results(study, root=root, tracking_uri=tracking_uri).summary


@checked
def judge(
    frame: pd.DataFrame | Path | str,
    *,
    arm: str = "",
    seed: str = "",
    metric: str | Sequence[str] = (),
    base: str = "",
    question: str = "",
    dataset: str = "",
    wide: bool = False,
    direction: str | Sequence[str] | Mapping[str, str] = (),
    margin: float | Sequence[float] | Mapping[str, float] | None = None,
    looks: Sequence[int] = (),
    resolution: float | None = None,
    max_failed: int = 0,
    family: str = "question",
) -> JudgedTable:
    """Return what may be said of results that exist: the verdicts on a table of anybody's runs; nothing is trained.

    The result is that of `run`, for each metric: `verdicts`, `runs`, `summary`, `figures()`, `write(folder)`.

    Args:
        frame: the runs, one a row, or with a column for each arm and a row for each seed; or a CSV file of them.
        arm: the column of what is compared. It and the next ones are guessed where they are left out and plain.
        seed: the column of what pairs the arms.
        metric: the column of what is measured, or several.
        base: the arm that the others are compared with.
        question: the column that tells questions apart.
        dataset: the column that tells data sets apart.
        wide: whether each arm is a column, and each seed a row; `metric` is then a name for the numbers.
        direction: "maximize" or "minimize"; of several metrics by name, `{"acc": "maximize"}`, or in their order.
        margin: differences that count as equivalent; of several metrics as `direction`.
        looks: after how many seeds the results were looked at.
        resolution: the smallest step of the metric, such as 1 / test examples.
        max_failed: seeds of an arm that may have failed.
        family: what p is corrected over: the arms of a "question", or those of the whole "study".

    Raises:
        StnBenchError: in one line, if an argument or the table cannot be used.

    Example:
        >>> stn_bench.judge(frame, arm="method", metric="acc", base="resnet").verdicts
    """
    from dataclasses import replace

    from stn_bench.report.judging import Request, stated
    from stn_bench.report.judging import judge as judge_table
    from stn_bench.tracking.columns import Columns
    from stn_bench.tracking.spelling import PYTHON
    from stn_bench.tracking.table import from_frame, read_file

    table = read_file(Path(frame)) if isinstance(frame, Path | str) else from_frame(frame)
    table = replace(table, spelling=PYTHON)
    metrics = tuple(filter(None, (metric,))) if isinstance(metric, str) else tuple(map(str, metric))
    columns = Columns(arm, seed, metrics, base, question, dataset, wide)
    asked = Request(stated(direction), stated(margin), tuple(looks), resolution, max_failed, family)
    return judge_table(table, columns, asked)


def _load(
    study: str | Study,
    root: Path | str | None,
    tracking_uri: str | None,
    settings: Mapping[str, Any] | None,
    storage: str | None = None,
) -> tuple[Plan, Workspace]:
    """Return the plan of a study and where it is run, as the files are now."""
    from stn_bench.study.load import load_plan
    from stn_bench.system.files import ensure_home
    from stn_bench.system.own_code import check_not_importing, forget_changed, remember
    from stn_bench.system.workspace import Workspace
    from stn_bench.tracking.code import forget

    ensure_home()
    check_not_importing()
    forget_changed()
    forget()
    workspace = Workspace.at(root, tracking_uri, storage)
    plan = load_plan(study, workspace, overrides=settings or {})
    remember()
    return plan, workspace
