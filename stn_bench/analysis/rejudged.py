"""Words that were published under other rules: which of them are others now, and the numbers behind that. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from stn_bench.analysis.summary import AblationSummary, ArmSummary, ChangedWord, Rejudged
from stn_bench.stats import ALPHA
from stn_bench.study.spec import Published
from stn_bench.system.format import level_in_words, p_value


def rejudged(
    published: Published | None, ablations: Sequence[AblationSummary], margin: float, ended: str
) -> Rejudged | None:
    """Return what became of published words; None where there are none, or they were said of other runs.

    Args:
        published: the words, by question and arm.
        ablations: the questions as they are judged today.
        margin: smaller differences count as equivalent.
        ended: when the last run of today ended.
    """
    if published is None or published.ended != ended:
        return None
    today = {f"{ablation.name}/{arm.name}": arm for ablation in ablations for arm in ablation.arms[1:]}
    changed = [
        ChangedWord(label=label, was=was, now=arm.verdict or "not judged", why=_why(arm, was, margin))
        for label, was in published.words.items()
        if (arm := today.get(label)) and arm.verdict != was
    ]
    return Rejudged(until=published.until, rule=published.rule, count=len(published.words), changed=tuple(changed))


def _why(arm: ArmSummary, was: str, margin: float) -> str:
    """Return the numbers that stand against the word that was, or for the one that is."""
    if arm.reason:
        return arm.reason
    if arm.interval is None or arm.p_adjusted is None:
        return "no test can be made of it"
    low, high = arm.interval
    level = level_in_words(arm.level or 1 - ALPHA)
    if was == "equivalent" and arm.verdict != "equivalent":
        if -margin < low and high < margin:
            return f"the p of equivalence, now adjusted for the arms, is {p_value(arm.equivalence_p)}"
        return f"its own {level} interval reaches beyond the margin"
    if arm.verdict == "equivalent":
        return f"its own {level} interval lies within the margin"
    if arm.p_adjusted > ALPHA:
        return f"by its own scatter its p is {p_value(arm.p)}, adjusted {p_value(arm.p_adjusted)}"
    if low <= 0 <= high:
        return f"its own {level} interval holds 0"
    return f"its adjusted p is {p_value(arm.p_adjusted)}"


__all__ = ["rejudged"]
