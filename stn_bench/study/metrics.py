"""The metrics of a study: the primary one, those of tuning, and those of claims."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from stn_bench.study.spec import Ablation, Study
from stn_bench.subject import Metric, Subject
from stn_bench.system.errors import CatalogueError, StnBenchError
from stn_bench.system.sounds import Direction, sounds
from stn_bench.system.text import did_you_mean, is_metric_name, shorten

Place = Callable[..., str]
"""Study, and one of its ablations or none -> where a message finds it."""

TEST = "test."
"""How metrics of test examples begin: tuning looks at none of them, and of a trial none is recorded."""

Value = TypeVar("Value")

WAYS = 'write direction = "maximize", or "minimize"'

WIDEST = 0.5
"""Half of all that a fraction can be: no margin is that wide."""


def file_of(study: Study, ablation: Ablation | None = None) -> str:
    """Return the file of an ablation, or of the study itself."""
    return f"studies/{study.name}.toml" if ablation is None else f"ablations/{ablation.name}.toml"


def primary_metric(study: Study, subject: Subject, place: Place = file_of) -> Metric:
    """Return the primary metric of a study, as its subject declares it, or as the study does where it is new.

    Raises:
        CatalogueError: if nobody declares it, or the study contradicts its subject.
    """
    where, known = place(study), subject.known_metrics
    name = study.metric or (subject.metrics[0].name if subject.metrics else "")
    if not name:
        raise CatalogueError(
            f"{where}: expected `metric`: subject `{subject.name}` declares none; name one of its own"
        )
    if name in known:
        metric = known[name]
        if study.direction not in (None, metric.direction):
            raise CatalogueError(
                f"{where}: `direction`: expected {metric.direction} for `{name}`, got {study.direction}; leave it out"
            )
        return metric
    if subject.metrics:
        raise CatalogueError(f"{where}: `metric`: no metric `{shorten(name)}`.{did_you_mean(name, known)}")
    if study.direction is None:
        raise CatalogueError(
            f"{where}: expected `direction`, since subject `{subject.name}` does not declare `{name}`; {WAYS}"
        )
    return _told(name, study.direction, where)


def _told(name: str, direction: Direction, where: str) -> Metric:
    """Return a metric whose direction a study alone tells.

    Raises:
        CatalogueError: if its name denies that, or can be none of a metric.
    """
    if not is_metric_name(name):
        raise CatalogueError(
            f"{where}: `metric`: expected a name of a–z, A–Z, 0–9, `_.:/-` and spaces, got `{shorten(name)}`"
        )
    if sounds(name) not in (None, direction):
        raise CatalogueError(
            f"{where}: `direction`: expected {sounds(name)}, as the name `{shorten(name)}` says, got {direction}; if "
            f'{direction} is meant, the subject says it in its `metrics`: Metric("{shorten(name)}", "what it is", '
            f'"{direction}")'
        )
    return Metric(name, direction=direction)


def without_tests(metrics: Mapping[str, Value]) -> dict[str, Value]:
    """Return what a tuning trial may tell of metrics: those of no test example."""
    return {name: value for name, value in metrics.items() if not name.startswith(TEST)}


def step_of(metric: Metric, settings: Any) -> float:
    """Return the smallest step by which a metric can differ; 0 where there is none, or the data that tell are gone."""
    if metric.resolution is None:
        return 0.0
    try:
        return metric.resolution(settings)
    except (StnBenchError, OSError):
        return 0.0


def absurd_margin(metric: Metric, margin: float) -> str:
    """Return why a margin is none that a metric can have, or ""."""
    if metric.scale != "fraction" or margin < WIDEST:
        return ""
    return (
        f"expected less than {WIDEST:g} for `{shorten(metric.name)}`, which lies between 0 and 1, since any two arms "
        f"would be equivalent; half a point is 0.005; got {margin:g}"
    )


def check_margin(study: Study, metric: Metric, place: Place = file_of) -> None:
    """Check that a study's margin makes sense on the scale of its metric.

    Raises:
        CatalogueError: if it is as wide as the metric.
    """
    if reason := absurd_margin(metric, study.margin):
        raise CatalogueError(f"{place(study)}: `margin`: {reason}")


def check_claims(ablation: Ablation, metric: Metric, subject: Subject, where: str) -> None:
    """Check that each claim of an ablation, which messages find there, is on a metric with a known direction.

    Raises:
        CatalogueError: if a metric has no declared direction.
    """
    for name in filter(None, (claim.metric for claim in ablation.claims)):
        if name not in (metric.name, *subject.known_metrics):
            raise CatalogueError(
                f"{where}: [[claims]]: `metric`: expected a metric of the subject or the study, got `{shorten(name)}`"
            )


def tuning_metrics(study: Study, subject: Subject, primary: Metric, place: Place = file_of) -> tuple[Metric, ...]:
    """Return the metrics that tuning looks at: the study's own, or those that its subject names.

    Raises:
        CatalogueError: if no metric is named, or the one that the study names is `primary`, which its verdict uses, or
            one of test examples.
    """
    tuning, where = study.tuning, f"{place(study)}: [tuning]"
    if not tuning.metric:
        if tuning.trials and not subject.tune_on:
            raise CatalogueError(
                f"{where}: expected `metric`, since subject `{subject.name}` names nothing to tune on"
            )
        return subject.tuning if tuning.trials else ()
    if tuning.metric == primary.name or tuning.metric.startswith(TEST):
        raise CatalogueError(f"{where}: `metric`: expected no metric of the verdict, got `{shorten(tuning.metric)}`")
    known = subject.known_metrics
    if tuning.metric in known:
        if tuning.direction not in (None, known[tuning.metric].direction):
            raise CatalogueError(
                f"{where}: `direction`: expected {known[tuning.metric].direction} for `{tuning.metric}`, got "
                f"{tuning.direction}; leave it out"
            )
        return (known[tuning.metric],)
    if subject.metrics:
        raise CatalogueError(
            f"{where}: `metric`: no metric `{shorten(tuning.metric)}`.{did_you_mean(tuning.metric, known)}"
        )
    if tuning.direction is None:
        name = shorten(tuning.metric)
        raise CatalogueError(
            f"{where}: expected `direction`, since subject `{subject.name}` does not declare `{name}`; {WAYS}"
        )
    return (_told(tuning.metric, tuning.direction, where),)
