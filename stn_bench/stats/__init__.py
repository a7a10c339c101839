"""Comparing arms with their base over few seeds. Pure: numbers in, frozen values out.

The unit is the seed: arm and base are paired by it. `docs/statistics.md` explains every number to a reader of reports;
`benchmarks/verdicts` measures how often the verdicts are wrong.
"""

from stn_bench.stats.budget import expected_best
from stn_bench.stats.comparison import (
    Comparison,
    Ratio,
    SeedMean,
    compare,
    error_ratio,
    estimate,
    hedges,
    sign_flip_p,
    superiority,
)
from stn_bench.stats.examples import ExampleParts, binomial_error, example_parts, published_p
from stn_bench.stats.factors import Effect, effects
from stn_bench.stats.levels import Levels, calibrate, is_shipped, level
from stn_bench.stats.power import Design, detectable, more_seeds
from stn_bench.stats.rule import holm
from stn_bench.stats.values import (
    ALPHA,
    FEWEST_SEEDS,
    Direction,
    Spread,
    Values,
    is_number,
    known,
    known_interval,
    spread,
)
from stn_bench.stats.verdict import (
    Correction,
    Judgement,
    Outcomes,
    Question,
    Rules,
    Verdict,
    judge,
    judge_questions,
)

__all__ = [
    "ALPHA",
    "FEWEST_SEEDS",
    "Comparison",
    "Correction",
    "Design",
    "Direction",
    "Effect",
    "ExampleParts",
    "Judgement",
    "Levels",
    "Outcomes",
    "Question",
    "Ratio",
    "Rules",
    "SeedMean",
    "Spread",
    "Values",
    "Verdict",
    "binomial_error",
    "calibrate",
    "compare",
    "detectable",
    "effects",
    "error_ratio",
    "estimate",
    "example_parts",
    "expected_best",
    "hedges",
    "holm",
    "is_number",
    "is_shipped",
    "judge",
    "judge_questions",
    "known",
    "known_interval",
    "level",
    "more_seeds",
    "published_p",
    "sign_flip_p",
    "spread",
    "superiority",
]
