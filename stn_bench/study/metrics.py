"""The metrics of a study: the primary one, those of tuning, and those of claims."""

from __future__ import annotations

from stn_bench.study.spec import Ablation, Study
from stn_bench.subject import Metric, Subject
from stn_bench.system.errors import CatalogueError
from stn_bench.system.text import did_you_mean, shorten


def primary_metric(study: Study, subject: Subject) -> Metric:
    """Return the primary metric of a study, as its subject declares it, or as the study does where it is new.

    Raises:
        CatalogueError: if nobody declares it, or the study contradicts its subject.
    """
    where, known = f"studies/{study.name}.toml", subject.known_metrics
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


def check_claims(ablation: Ablation, metric: Metric, subject: Subject) -> None:
    """Check that each claim is on a metric with a known direction.

    Raises:
        CatalogueError: if a metric has no declared direction.
    """
    for name in filter(None, (claim.metric for claim in ablation.claims)):
        if name not in (metric.name, *subject.known_metrics):
            where = f"ablations/{ablation.name}.toml: [[claims]]: `metric`"
            raise CatalogueError(f"{where}: expected a metric of the subject or the study, got `{shorten(name)}`")


def tuning_metrics(study: Study, subject: Subject) -> tuple[Metric, ...]:
    """Return the metrics that tuning looks at: the study's own, or those that its subject names.

    Raises:
        CatalogueError: if no metric is named, or the verdict uses it.
    """
    tuning, where = study.tuning, f"studies/{study.name}.toml: [tuning]"
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
