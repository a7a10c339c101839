"""The summary of a study: every number that the report shows, as `report.json` holds it."""

from __future__ import annotations

import hashlib
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from stn_bench.analysis.claims import ClaimSummary
from stn_bench.analysis.confirmation import ConfirmationSummary
from stn_bench.settings import canonical
from stn_bench.stats import ALPHA, Correction, Direction, Verdict
from stn_bench.subject import LayerCost, Scale
from stn_bench.system.format import Unit, counted


class Frozen(BaseModel):
    """A value of the summary; NaN becomes null in JSON."""

    model_config = ConfigDict(frozen=True)


class ArmSummary(Frozen):
    """One arm of one question.

    Args:
        name: the arm's name in the question; "base" for the one that the others are compared with.
        label: the arm's name in the study, where several questions may share it.
        set: what it changes, by dotted path.
        matched: those of these settings that `match` found, so that it costs the base's FLOPs.
        without: setting -> the part of the model that it takes away.
        chosen: the hyperparameters that tuning chose.
        planned: number of seeds that its verdict wants as far as can be told today, or has anyway.
        seeds: seeds that finished.
        values: the primary metric of each of those.
        failed: seed -> why it diverged or crashed.
        mean: mean of the values.
        sd: their sample standard deviation.
        difference: mean difference to the base, paired by seed.
        interval: its t-interval, at `level`.
        level: confidence level of the interval: 0.95, or higher where several looks share the 5 %.
        p: two-sided p of the t-test that the difference is 0.
        p_adjusted: the same, adjusted for the looks so far and for the family's arms by the study's correction; null
            before the arm's first look is complete.
        holm_p: the same by the classic: paired t, looks, Holm.
        equivalence_p: p of the two one-sided tests against the margin, times the number of looks, and adjusted for the
            family's arms by Holm's method.
        sign_flip_p: p of the exact sign-flip test, a second opinion from six seeds on.
        correlation: of the arm and the base over the seeds.
        pairs: number of seeds that the arm and the base both finished and that the verdict uses.
        wins: number of those on which the arm is the better one.
        losses: number of those on which it is the worse one.
        superiority: exact 95 % interval of the chance that it is the better one on a new seed on which they differ.
        effect_size: difference in standard deviations of the paired differences, with Hedges' factor.
        error_ratio: error rate over the base's, the geometric mean over the seeds, for fractions.
        error_ratio_interval: its interval, at `level`.
        seed_se: standard error of the difference that the seeds leave.
        example_se: standard error of the difference that the test examples leave.
        verdict: better, worse, equivalent, undecided, unreplicated or invalid; null for the base.
        reason: why an invalid verdict is invalid.
        look: number of the look that the verdict was reached at, from 1.
        lacks: how many seeds of its first look are still to come; 0 once that is complete.
        first_look: how many seeds that has.
        stopped: whether the arm was decided before the last look, and trained on no more seeds.
        more_seeds: for an undecided arm, roughly how many more seeds would decide it; null if a thousand would not.
        together: why the settings that it changes are one factor, where there is more than one.
        match: "flops" if its model was scaled until it costs the base's FLOPs.
        caveats: what differs from the base beyond its one factor, in sentences: costs, and settings that go together;
            and what makes its values doubtful.
        parameters: number of weights, moving statistics included; like all costs but `cpu_step_ms`, the mean
            over the question's `timed` seeds.
        flops: floating-point operations to predict one example.
        seconds: seconds of training and validation.
        cpu_seconds: processor seconds of the same, all threads.
        cpu_step_ms: processor milliseconds per training step, its share of validation included, of the least
            disturbed of the `timed` seeds.
        peak_memory_mb: largest resident memory of the training process in MiB.
        published: numbers that others published for it.
        run_ids: MLflow's ids of the runs of those seeds, in the same order.
        costlier: FLOPs and parameters -> how much more than the base's, as a fraction, where it is over 5 %.
        published_p: Fisher's p of the published accuracies of arm and base, if it is told on how many examples.
        words: what the report calls it, where its file says so (`label` there); else left out.
        called: what it is called in results that others made, where that may not be its name; else left out.
    """

    name: str
    label: str
    set: dict[str, Any]
    matched: dict[str, Any] = {}
    without: dict[str, str] = {}
    chosen: dict[str, Any]
    planned: int
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    failed: dict[int, str]
    mean: float | None
    sd: float | None
    difference: float | None = None
    interval: tuple[float, float] | None = None
    level: float | None = None
    p: float | None = None
    p_adjusted: float | None = None
    holm_p: float | None = None
    equivalence_p: float | None = None
    sign_flip_p: float | None = None
    correlation: float | None = None
    pairs: int | None = None
    wins: int | None = None
    losses: int | None = None
    superiority: tuple[float, float] | None = None
    effect_size: float | None = None
    error_ratio: float | None = None
    error_ratio_interval: tuple[float, float] | None = None
    seed_se: float | None = None
    example_se: float | None = None
    verdict: Verdict | None = None
    reason: str = ""
    look: int | None = None
    lacks: int = 0
    first_look: int = 0
    stopped: bool = False
    more_seeds: int | None = None
    together: str = ""
    match: str = ""
    caveats: tuple[str, ...] = ()
    parameters: float | None
    flops: float | None
    seconds: float | None
    cpu_seconds: float | None
    cpu_step_ms: float | None
    peak_memory_mb: float | None
    layers: tuple[LayerCost, ...]
    uncounted: tuple[str, ...]
    published: dict[str, float]
    run_ids: tuple[str, ...]
    costlier: dict[str, float] = {}
    published_p: float | None = None
    words: str = Field("", exclude_if=lambda words: not words)
    called: str = Field("", exclude_if=lambda called: not called)

    @property
    def plain_name(self) -> str:
        """What figures call it."""
        return self.words or self.called or self.name

    @property
    def marked_name(self) -> str:
        """What sentences and tables call it, in Markdown."""
        return self.words or f"`{self.called or self.name}`"

    @property
    def has_no_spread(self) -> bool:
        """Whether its pairs differ all by the same, and no resolution of the metric says how much they could have."""
        return self.p is None and self.seed_se == 0  # the interval may be as wide as rounding

    @property
    def seeds_of_first_look(self) -> str:
        """How many seeds of the first look are there, as "n of N seeds"."""
        return f"{self.first_look - self.lacks} of {counted(self.first_look, 'seed')}"

    @property
    def moved(self) -> dict[str, Any]:
        """What it sets of its own: without what gives it the base's cost."""
        return {path: value for path, value in self.set.items() if path not in self.matched}

    @property
    def disagrees(self) -> bool:
        """Whether the sign-flip test and the t-test fall on different sides of 5 %."""
        if self.p is None or self.sign_flip_p is None:
            return False
        return (self.p < ALPHA) != (self.sign_flip_p < ALPHA)


class EffectSummary(Frozen):
    """A main effect of a factor's level, or the interaction of two; the fields of `stn_bench.stats.Effect`."""

    levels: dict[str, Any]
    value: float
    interval: tuple[float, float]
    level: float
    p: float | None
    p_adjusted: float | None
    holm_p: float | None
    pairs: int


class Fairness(Frozen):
    """What an arm was given to do its best with; equal for every arm, or the verdict is invalid.

    Args:
        trials: tuning trials.
        searched: settings that tuning searched.
        given: what each of its runs had to learn from: a noun in the singular -> its number.
    """

    trials: int
    searched: int
    given: dict[str, int]


class ClassSummary(Frozen):
    """The primary metric on the test examples of one class.

    Args:
        name: the class.
        examples: how many test examples there are of it, the mean over the runs.
        values: arm -> the mean of the metric on these, over its seeds.
    """

    name: str
    examples: int
    values: dict[str, float]


class MetricSummary(Frozen):
    """A metric that runs returned beside the primary one: arm -> its mean over the seeds, and their deviation."""

    name: str
    scale: Scale
    means: dict[str, float | None]
    sds: dict[str, float | None]


class AblationSummary(Frozen):
    """One question: its arms, the base first.

    Args:
        answer: the arm that the question is about, "" where none is named; then left out.
        factors: factor -> its levels, the base's first, for questions that cross them.
        effects: main effects and two-way interactions of the factors.
        no_effects: why there are none, where factors are crossed and that is so; else left out.
        fairness: arm -> what it was given.
        expected_best: arm -> expected best value of 1, 2, … tuning trials, in what tuning looks at.
        confirmation: what fresh seeds say of the best arm; null as long as none were trained.
        remark: what the study's author found out about its runs.
        timed: the seeds whose runs tell the costs: those that all arms finished.
        classes: the metric by class, where the runs tell of their test examples' classes; else left out.
        others: what the runs of somebody's own subject returned beside the primary metric; else left out.
    """

    name: str
    title: str
    question: str
    source: str
    answer: str = Field("", exclude_if=lambda arm: not arm)
    remark: str = ""
    published_pictures: int
    arms: tuple[ArmSummary, ...]
    claims: tuple[ClaimSummary, ...]
    factors: dict[str, tuple[Any, ...]] = {}
    effects: tuple[EffectSummary, ...] = ()
    no_effects: str = Field("", exclude_if=lambda reason: not reason)
    fairness: dict[str, Fairness] = {}
    expected_best: dict[str, tuple[float | None, ...]] = {}
    confirmation: ConfirmationSummary | None = None
    timed: tuple[int, ...] = ()
    classes: tuple[ClassSummary, ...] = Field((), exclude_if=lambda classes: not classes)
    others: tuple[MetricSummary, ...] = Field((), exclude_if=lambda others: not others)

    @property
    def base(self) -> ArmSummary:
        """The arm that the others are compared with."""
        return self.arms[0]

    def arm(self, name: str) -> ArmSummary:
        """Return an arm by its name."""
        return next(arm for arm in self.arms if arm.name == name)

    def differences(self, arm: ArmSummary) -> tuple[float, ...]:
        """Return an arm's difference to the base on each seed that both finished."""
        base = dict(zip(self.base.seeds, self.base.values, strict=True))
        pairs = zip(arm.seeds, arm.values, strict=True)
        return tuple(value - base[seed] for seed, value in pairs if seed in base)


class Provenance(Frozen):
    """Where the numbers come from.

    Args:
        started: when the first run began, ISO 8601 in UTC.
        ended: when the last one ended.
        datasets: title -> SHA-256 fingerprint of the data.
        code: definition -> the digests under which it ran; more than one means mixed code.
        libraries: package -> the versions that it ran with.
        machines: the machines, as described by each run.
    """

    started: str
    ended: str
    datasets: dict[str, str]
    code: dict[str, tuple[str, ...]]
    libraries: dict[str, tuple[str, ...]]
    machines: tuple[str, ...]

    @property
    def code_digest(self) -> str:
        """SHA-256 over all definitions and the digests under which they ran."""
        return hashlib.sha256(canonical(self.code).encode()).hexdigest()

    @property
    def mixed(self) -> tuple[str, ...]:
        """Definitions and libraries of which the runs used more than one version."""
        parts = {**self.code, **self.libraries}
        return tuple(name for name, versions in parts.items() if len(versions) > 1)


class DeviationSummary(Frozen):
    """Something that changed after the plan was preregistered: when, what, why, and after how many ended runs."""

    date: str
    what: str
    why: str
    runs: int = 0


class PreregistrationSummary(Frozen):
    """The plan as it was preregistered, and how the study came to deviate from it.

    Args:
        date: when it was preregistered, ISO 8601 in UTC.
        digest: its digest then.
        deviations: every change that was declared since, in their order.
        before_first_run: whether that was before the first of the study's runs began, of whatever settings; true as
            long as there is none.
        when: the same in words, with how many of the study's runs had ended.
        undeclared: how the plan differs today besides, which nobody declared.
    """

    date: str
    digest: str
    deviations: tuple[DeviationSummary, ...] = ()
    before_first_run: bool = True
    when: str = "before the first run"
    undeclared: tuple[str, ...] = ()


class ChangedWord(Frozen):
    """An arm whose published word is another one now.

    Args:
        label: question and arm.
        was: the word that was published.
        now: the word of today.
        why: the numbers of today that make it so, in a sentence without its full stop.
    """

    label: str
    was: str
    now: str
    why: str


class Rejudged(Frozen):
    """What became of words that were published under other rules.

    Args:
        until: the day until which they stood.
        rule: the rules that they followed.
        count: how many words there were.
        changed: those that are others now.
    """

    until: str
    rule: str
    count: int
    changed: tuple[ChangedWord, ...]


class Summary(Frozen):
    """A study, summed up.

    Args:
        metric: the primary metric.
        meaning: what it is, in a sentence without its full stop; "" where nobody tells.
        direction: which way it is better.
        scale: what it is measured in.
        example: the noun for what the subject is tested on.
        planned_runs: tuning trials, and verdict runs on the seeds that the verdicts want today.
        finished_runs: those of them that have finished.
        missing_runs: those that the verdicts still wait for; the seeds of arms that a look decided are not among them.
        preregistration: the plan as fixed before the first run; null if it was not.
        source: where the runs were found, if others made them; "" for runs of a study.
        notes: what was found while those were read, in sentences without their full stop.
        doubts: what of metric and margin makes every verdict doubtful, the same.
        correction: how p is adjusted: "ranked", the rule, or "holm", the classic.
        rejudged: what became of words that were published under other rules; left out where there are none.
        levels: number of arms without effect -> the level of one look for so many, for one arm and for each family.
    """

    study: str
    title: str
    scope: str
    digest: str
    metric: str
    meaning: str
    direction: Direction
    scale: Scale
    example: str
    margin: float
    seeds: tuple[int, ...]
    looks: tuple[int, ...]
    family: str
    correction: Correction
    levels: dict[int, float]
    max_failed: int
    trials: int
    base: dict[str, Any]
    planned_runs: int
    finished_runs: int
    missing_runs: int = 0
    ablations: tuple[AblationSummary, ...]
    provenance: Provenance
    preregistration: PreregistrationSummary | None = None
    source: str = ""
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    rejudged: Rejudged | None = Field(None, exclude_if=lambda rejudged: rejudged is None)

    @property
    def unit(self) -> Unit:
        """How values and differences of the primary metric are written."""
        means = (arm.mean for ablation in self.ablations for arm in ablation.arms if arm.mean is not None)
        return Unit.of(self.metric, is_fraction=self.scale == "fraction").to_show(means)

    @property
    def claims(self) -> tuple[ClaimSummary, ...]:
        """Every claim, in the order of the questions."""
        return tuple(claim for ablation in self.ablations for claim in ablation.claims)


__all__ = [
    "AblationSummary",
    "ArmSummary",
    "ChangedWord",
    "ConfirmationSummary",
    "EffectSummary",
    "Fairness",
    "MetricSummary",
    "PreregistrationSummary",
    "Provenance",
    "Rejudged",
    "Summary",
]
