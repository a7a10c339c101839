"""The metrics of a study: the primary one, those of tuning, and those of claims."""

from __future__ import annotations

from collections.abc import Callable

from stn_bench.study.spec import Ablation, Study
from stn_bench.subject import Metric, Subject
from stn_bench.system.errors import CatalogueError
from stn_bench.system.text import did_you_mean, shorten

Place = Callable[..., str]
"""Study, and one of its ablations or none -> where a message finds it."""


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
            f"{where}: expected `direction`, since subject `{subject.name}` does not declare `{name}`"
        )
    return Metric(name, direction=study.direction)


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


def tuning_metrics(study: Study, subject: Subject, place: Place = file_of) -> tuple[Metric, ...]:
    """Return the metrics that tuning looks at: the study's own, or those that its subject names.

    Raises:
        CatalogueError: if no metric is named, or the verdict uses it.
    """
    tuning, where = study.tuning, f"{place(study)}: [tuning]"
    if not tuning.metric:
        if tuning.trials and not subject.tune_on:
            raise CatalogueError(
                f"{where}: expected `metric`, since subject `{subject.name}` names nothing to tune on"
            )
        return subject.tuning if tuning.trials else ()
    if tuning.metric == study.metric or tuning.metric.startswith("test."):
        raise CatalogueError(f"{where}: `metric`: expected no metric of the verdict, got `{shorten(tuning.metric)}`")
    known = subject.known_metrics
    if subject.metrics and tuning.metric not in known:
        raise CatalogueError(
            f"{where}: `metric`: no metric `{shorten(tuning.metric)}`.{did_you_mean(tuning.metric, known)}"
        )
    return (known.get(tuning.metric) or Metric(tuning.metric, direction=tuning.direction),)
