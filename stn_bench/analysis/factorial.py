"""The factors of a question: their effects, or why there are none. Pure."""

from __future__ import annotations

import itertools
import math
from typing import Any

from stn_bench.analysis.analyse import Analysis
from stn_bench.analysis.summary import EffectSummary
from stn_bench.analysis.verdicts import outcomes_of, rules_of
from stn_bench.stats import FEWEST_SEEDS, Effect, Outcomes, Rules, effects, known
from stn_bench.study.plan import PlannedQuestion
from stn_bench.study.spec import BASE
from stn_bench.system.format import counted, listed, setting_value


def factor_levels(question: PlannedQuestion) -> dict[str, tuple[Any, ...]]:
    """Return factor -> its levels, the base's first."""
    base = question.base.settings
    return {
        path: (base[path], *(level for level in levels if level != base[path]))
        for path, levels in question.ablation.factors.items()
    }


def effects_of(question: PlannedQuestion, analysis: Analysis) -> tuple[tuple[EffectSummary, ...], str]:
    """Return the effects of a question's factors, and why there are none where factors are crossed and that is so."""
    factors = factor_levels(question)
    if not factors:
        return (), ""
    names = _cells(question)
    if reason := never_told(question) or _invalid(question, analysis, names):
        return (), reason
    rules = rules_of(analysis.plan)
    cells = {levels: outcomes_of(question.arms[name], analysis.results) for levels, name in names.items()}
    found = effects(factors, cells, rules)
    return tuple(map(_summed, found)), "" if found else _awaited(list(cells.values()), rules)


def never_told(question: PlannedQuestion) -> str:
    """Return why the plan itself leaves combinations of the factors out, so that no effect can ever be told, or ""."""
    factors, written, cells = factor_levels(question), question.ablation.factors, _cells(question)
    left_out = [levels for levels in itertools.product(*factors.values()) if levels not in cells]
    if not left_out:
        return ""
    if beyond := {path: levels[0] for path, levels in factors.items() if levels[0] not in written[path]}:
        return f"the base has {_in_words(beyond)}, which [factors] does not name"
    count = math.prod(map(len, factors.values()))
    one = _in_words(dict(zip(factors, left_out[0], strict=True)))
    return f"{len(left_out)} of {count} combinations left out, such as {one}"


def _in_words(settings: dict[str, Any]) -> str:
    return listed([f"`{path}` = {setting_value(value)}" for path, value in settings.items()])


def _cells(question: PlannedQuestion) -> dict[tuple[Any, ...], str]:
    """Return one level of each factor -> the arm that is trained at them; arms that set anything else are none."""
    factors = question.ablation.factors
    return {
        tuple(arm.settings[path] for path in factors): name
        for name, arm in question.arms.items()
        if name == BASE or question.written(name).set.keys() <= factors.keys()
    }


def _invalid(question: PlannedQuestion, analysis: Analysis, cells: dict[tuple[Any, ...], str]) -> str:
    """Return which combination is invalid beside the base, or "": effects of it would be no more valid."""
    for name, verdict in analysis.verdicts[question.ablation.name].items():
        if name in cells.values() and verdict.word == "invalid":
            return f"{question.written(name).label or f'`{name}`'} is invalid, {verdict.reason}"
    return ""


def _awaited(cells: list[Outcomes], rules: Rules) -> str:
    """Return how many seeds effects take: those of the first look, of which every combination has to finish three."""
    first = max(rules.looks[0], FEWEST_SEEDS)
    if len(rules.seeds) >= first and all(cell.has(rules.seeds[:first]) for cell in cells):
        return f"fewer than {FEWEST_SEEDS} seeds finished in every combination"
    return f"it takes {counted(first, 'seed')} of every combination"


def _summed(effect: Effect) -> EffectSummary:
    return EffectSummary(
        levels=dict(effect.levels),
        value=effect.value,
        interval=(effect.low, effect.high),
        level=effect.level,
        p=known(effect.p),
        p_adjusted=known(effect.p_adjusted),
        holm_p=known(effect.holm_p),
        pairs=effect.n,
    )


__all__ = ["effects_of", "factor_levels", "never_told"]
