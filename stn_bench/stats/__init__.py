"""Comparing arms with their base over few seeds. Pure: numbers in, frozen values out.

The unit is the seed: arm and base are paired by it. `docs/statistics.md` explains every number to a reader of reports;
`benchmarks/verdicts` measures how often the verdicts are wrong.
"""

from stn_bench.stats.budget import expected_best
from stn_bench.stats.comparison import (
    Comparison,
    Method,
    Ratio,
    SeedMean,
    compare,
    compare_arms,
    error_ratios,
    estimate,
    hedges,
    sign_flip_p,
    superiority_bound,
)
from stn_bench.stats.examples import ExampleParts, binomial_error, example_parts, published_p
from stn_bench.stats.factors import Effect, effects
from stn_bench.stats.power import Design, detectable, more_seeds
from stn_bench.stats.values import (
    ALPHA,
    FEWEST_SEEDS,
    Direction,
    Spread,
    Values,
    known,
    known_interval,
    spread,
)
from stn_bench.stats.verdict import Judgement, Outcomes, Question, Rules, Verdict, holm, judge, judge_questions

__all__ = [
    "ALPHA",
    "FEWEST_SEEDS",
    "Comparison",
    "Design",
    "Direction",
    "Effect",
    "ExampleParts",
    "Judgement",
    "Method",
    "Outcomes",
    "Question",
    "Ratio",
    "Rules",
    "SeedMean",
    "Spread",
    "Values",
    "Verdict",
    "binomial_error",
    "compare",
    "compare_arms",
    "detectable",
    "effects",
    "error_ratios",
    "estimate",
    "example_parts",
    "expected_best",
    "hedges",
    "holm",
    "judge",
    "judge_questions",
    "known",
    "known_interval",
    "more_seeds",
    "published_p",
    "sign_flip_p",
    "spread",
    "superiority_bound",
]
