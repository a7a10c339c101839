"""The columns of the report's tables, and the notes beneath them: what stands in each cell, for any format.

Cells are Markdown of the simplest kind: `code` and **bold**.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import get_args

from stn_bench.analysis.caveats import step_time
from stn_bench.analysis.claims import ClaimOutcome, ClaimSummary
from stn_bench.analysis.digits import unit_of
from stn_bench.analysis.summary import AblationSummary, ArmSummary, Summary
from stn_bench.report.sentences import each, effect_name, seeds_in_words
from stn_bench.stats import ALPHA, Direction
from stn_bench.study.plan import COSTLIER_SIGN
from stn_bench.study.spec import BASE
from stn_bench.system.format import (
    Unit,
    counted,
    in_short,
    level_in_words,
    listed,
    number,
    p_value,
    relative,
    seconds_in_short,
    settings_in_words,
)

NOTHING = "–"
WHAT = "what it changes"
MOST_SETTINGS = 4
"""Settings of an arm that its row names; of more it names the first, and a table of their own has all."""

MOST_RUNS = 2_000
"""Runs that a page lists; `runs.csv` has them all."""
Row = tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table of text.

    Args:
        header: what stands above each column.
        rows: the cells, row by row.
    """

    header: Row
    rows: tuple[Row, ...]

    def without(self, *columns: str) -> Table:
        """Return the table without some columns, where it has them."""
        kept = [index for index, name in enumerate(self.header) if name not in columns]
        return Table(
            tuple(self.header[index] for index in kept),
            tuple(tuple(row[index] for index in kept) for row in self.rows),
        )

    def without_empty(self, *columns: str) -> Table:
        """Return the table without the columns, of these or of all, that say nothing in any row."""
        said = zip(self.header, *self.rows, strict=True)
        empty = [name for name, *cells in said if all(cell == NOTHING for cell in cells)]
        return self.without(*(name for name in empty if not columns or name in columns))


def arm_table(ablation: AblationSummary, unit: Unit, looks: int = 1) -> Table:
    """Return the table of a question: one row an arm, the base first.

    Args:
        ablation: the question.
        unit: how its metric is written.
        looks: how many looks were planned.
    """
    header = (
        "arm",
        WHAT,
        "seeds",
        unit.in_values,
        f"{unit.in_differences('difference to base')} {interval_header(ablation)}",
        "adjusted p",
        "verdict",
        "published",
    )
    table = Table(header, tuple(_arm_row(arm, unit, looks) for arm in ablation.arms))
    return table.without_empty(header[1], header[-1])


def has_many(arm: ArmSummary) -> bool:
    """Return whether an arm sets more than its row can hold."""
    return len(arm.set) > MOST_SETTINGS


def _changes(arm: ArmSummary) -> str:
    if not has_many(arm):
        return settings_in_words(arm.set) or NOTHING
    first = dict(list(arm.set.items())[:1])
    return f"{settings_in_words(first)} and {len(arm.set) - 1} more settings"


def _arm_row(arm: ArmSummary, unit: Unit, looks: int) -> Row:
    changes = _changes(arm)
    tuned = f"; tuned: {settings_in_words(arm.chosen)}" if arm.chosen else ""
    spread = f"{unit.value(arm.mean)} ± {unit.value(arm.sd)}" if arm.sd is not None else unit.value(arm.mean)
    is_base = arm.name == BASE
    return (
        f"{arm.marked_name}{mark(arm)}",
        changes + tuned,
        f"{len(arm.seeds)}/{arm.planned}" + (f", {len(arm.failed)} failed" if arm.failed else ""),
        spread,
        NOTHING if is_base else f"{unit.signed(arm.difference)} {unit.interval(arm.interval)}".strip(),
        NOTHING if is_base else p_value(arm.p_adjusted),
        NOTHING if is_base else _verdict(arm, looks),
        ", ".join(f"{name} {value:g}" for name, value in arm.published.items()) or NOTHING,
    )


def _verdict(arm: ArmSummary, looks: int) -> str:
    """Return the verdict's word, and what it takes to read it rightly."""
    if arm.verdict == "undecided" and arm.lacks:
        return f"undecided ({arm.seeds_of_first_look})"
    if arm.verdict == "undecided" and arm.has_no_spread:
        return "undecided, no spread"
    if arm.verdict == "undecided":
        more = "over a thousand more seeds" if arm.more_seeds is None else counted(arm.more_seeds, "more seed")
        return f"undecided, roughly {more}".replace("roughly over", "over")
    if arm.stopped:
        level = "" if arm.level in (None, 1 - ALPHA) else f", {level_in_words(arm.level or 0.0)} interval"
        return f"{arm.verdict}, stopped at look {arm.look} of {looks}{level}"
    return arm.verdict or NOTHING


def interval_header(ablation: AblationSummary) -> str:
    """Return the level of a question's intervals in brackets, such as "[95 %]"."""
    levels = sorted({arm.level for arm in ablation.arms if arm.level is not None}) or [1 - ALPHA]
    return f"[{' or '.join(map(level_in_words, levels))}]"


def mark(arm: ArmSummary) -> str:
    """Return the sign of an arm that costs over 5 % more than its base."""
    return COSTLIER_SIGN if arm.costlier else ""


def sure_table(
    ablation: AblationSummary, unit: Unit, example: str = "example", direction: Direction = "maximize"
) -> Table:
    """Return how sure each difference is: one row an arm, without the columns that tell nothing here.

    Args:
        ablation: the question.
        unit: how its metric is written.
        example: the noun for what the subject is tested on.
        direction: which way its metric is better.
    """
    header = (
        "arm",
        "wins of pairs",
        f"P(arm {'>' if direction == 'maximize' else '<'} base) [95 %]",
        "effect size",
        f"error rate ÷ base's {interval_header(ablation)}",
        "seed correlation",
        "p (Holm)",
        "p of sign flips",
        "p of equivalence",
        unit.in_differences("standard error from seeds"),
        unit.in_differences(f"from {example}s"),
    )
    return Table(header, tuple(_sure_row(arm, unit) for arm in ablation.arms[1:])).without_empty()


def _sure_row(arm: ArmSummary, unit: Unit) -> Row:
    ratio = arm.error_ratio_interval
    between = f" [{number(ratio[0])}, {number(ratio[1])}]" if ratio else ""
    return (
        f"{arm.marked_name}{mark(arm)}",
        _wins(arm),
        _superiority(arm),
        number(arm.effect_size),
        f"{number(arm.error_ratio)}{between}",
        number(arm.correlation),
        p_value(arm.holm_p),
        f"{p_value(arm.sign_flip_p)}{', disagrees' if arm.disagrees else ''}",
        p_value(arm.equivalence_p),
        unit.value(arm.seed_se),
        unit.value(arm.example_se),
    )


def _wins(arm: ArmSummary) -> str:
    """Return how many pairs an arm won; those in which it equals its base are told apart."""
    if not arm.pairs:
        return NOTHING
    ties = arm.pairs - (arm.wins or 0) - (arm.losses or 0)
    return f"{arm.wins}/{arm.pairs}" + (f", {counted(ties, 'tie')}" if ties else "")


def _superiority(arm: ArmSummary) -> str:
    if arm.superiority is None:
        return NOTHING
    low, high = arm.superiority
    return f"[{number(low)}, {number(high)}]"


def effect_table(ablation: AblationSummary, unit: Unit) -> Table:
    """Return the main effects and the two-way interactions of a question's factors."""
    levels = [level_in_words(level) for level in sorted({effect.level for effect in ablation.effects})]
    header = (
        "effect",
        f"{unit.in_differences('change')} [{' or '.join(levels)}]",
        "adjusted p",
        "p (Holm)",
    )
    rows = [
        (
            effect_name(effect),
            f"{unit.signed(effect.value)} {unit.interval(effect.interval)}",
            p_value(effect.p_adjusted),
            p_value(effect.holm_p),
        )
        for effect in ablation.effects
    ]
    return Table(header, tuple(rows))


def fairness_table(ablation: AblationSummary) -> Table | None:
    """Return what each arm was given, or None where all were given the same."""
    fairness = list(ablation.fairness.values())
    if all(given == fairness[0] for given in fairness):
        return None
    nouns = tuple(dict.fromkeys(noun for given in fairness for noun in given.given))
    header = ("arm", "tuning trials", "settings searched", *(f"{noun}s" for noun in nouns))
    rows = [
        (
            ablation.arm(name).marked_name,
            str(given.trials),
            str(given.searched),
            *(f"{given.given[noun]:,}" if noun in given.given else NOTHING for noun in nouns),
        )
        for name, given in ablation.fairness.items()
    ]
    return Table(header, tuple(rows))


def fairness_line(ablation: AblationSummary) -> str:
    """Return what every arm was given alike, or "" where that differs or is not told."""
    if not ablation.fairness or fairness_table(ablation) is not None:
        return ""
    given = next(iter(ablation.fairness.values()))
    tried = f"{counted(given.trials, 'tuning trial')} over {counted(given.searched, 'setting')}"
    parts = [tried if given.trials else "no tuning", *(counted(count, noun) for noun, count in given.given.items())]
    return f"Every arm alike: {', '.join(parts)}."


def cost_table(ablation: AblationSummary, example: str = "example") -> Table:
    """Return what each arm of a question costs, and by how much that differs from the base's.

    Args:
        ablation: the question.
        example: the noun for what the subject is tested on.
    """
    header = ("arm", "parameters", f"FLOPs {each(example)}", "training", "CPU time", "CPU time a step", "peak memory")
    return Table(header, tuple(_cost_row(arm, ablation.base) for arm in ablation.arms)).without_empty()


def _cost_row(arm: ArmSummary, base: ArmSummary) -> Row:
    uncounted = "+" if arm.uncounted else ""
    return (
        f"{arm.marked_name}{mark(arm)}",
        _cost(arm.parameters, base.parameters, in_short),
        _cost(arm.flops, base.flops, lambda flops: in_short(flops) + uncounted),
        _cost(arm.seconds, base.seconds, seconds_in_short),
        _cost(arm.cpu_seconds, base.cpu_seconds, seconds_in_short),
        _cost(arm.cpu_step_ms, base.cpu_step_ms, step_time),
        _cost(arm.peak_memory_mb, None, lambda memory: f"{memory:.0f} MiB"),
    )


def _cost(value: float | None, base: float | None, write: Callable[[float], str]) -> str:
    if value is None:
        return NOTHING
    return write(value) + (f" ({relative(value / base)})" if base and value != base else "")


def timed_note(ablation: AblationSummary) -> str:
    """Return which runs tell the costs, or "" where nothing was timed."""
    arms = ablation.arms
    if all(arm.seconds is None and arm.cpu_step_ms is None for arm in arms):
        return ""
    step = "The CPU time of a step is that of the least disturbed run; the other costs are means"
    means = step if any(arm.cpu_step_ms is not None for arm in arms) else "Costs are means"
    if not ablation.timed or all(set(arm.seeds) <= set(ablation.timed) for arm in arms):
        return f"{means} over the seeds."
    return f"{means}, over the seeds that every arm has: {seeds_in_words(ablation.timed)}."


def run_table(summary: Summary) -> Table | None:
    """Return every verdict run once, with its MLflow id, or where it stands; None where they are too many to read."""
    rows = {
        run_id: (
            f"`{_label(arm)}`{mark(arm)}{f' {arm.words}' if arm.words else ''}",
            str(seed),
            unit.value(value),
            f"`{run_id}`",
        )
        for ablation in summary.ablations
        for unit in [unit_of(summary, ablation)]
        for arm in ablation.arms
        for seed, value, run_id in zip(arm.seeds, arm.values, arm.run_ids, strict=True)
    }
    header = ("arm", "seed", summary.unit.in_values, "run")
    return Table(header, tuple(rows.values())) if len(rows) <= MOST_RUNS else None


def _label(arm: ArmSummary) -> str:
    """Return an arm with its question, by the name that its runs' maker gave it."""
    return arm.label.removesuffix(arm.name) + arm.called if arm.called else arm.label


def claim_table(summary: Summary) -> Table:
    """Return the table of the claims: each claim, what was asked here, what came out."""
    titles = {ablation.name: ablation.title for ablation in summary.ablations}
    names = {
        (ablation.name, arm.name): f"{arm.marked_name}{mark(arm)}"
        for ablation in summary.ablations
        for arm in ablation.arms
    }
    rows = [
        (
            claim.says,
            f"{claim.asked}{_who(claim, names)}",
            f"**{claim.outcome}**{_claim_numbers(claim, summary)}",
            f"[{claim.ablation}](#{anchor(titles[claim.ablation])})",
        )
        for claim in summary.claims
    ]
    return Table(("claim", "asked here", "what came out", "section"), tuple(rows))


def claims_in_short(summary: Summary) -> str:
    """Return how many claims there are and what they came to: "4 claims: 3 reproduced, 1 contradicted".

    A claim may be asked in several comparisons, and each has an outcome of its own. A single one is told itself.
    """
    counts = Counter(claim.outcome for claim in summary.claims)
    claims, asked = len({claim.says for claim in summary.claims}), len(summary.claims)
    if asked == 1:
        only = summary.claims[0]
        return f"one claim, *{only.says}*: **{only.outcome}**{_claim_numbers(only, summary)}"
    several = f", asked in {counted(asked, 'comparison')}" if asked != claims else ""
    outcomes = ", ".join(f"{counts[outcome]} {outcome}" for outcome in get_args(ClaimOutcome) if counts[outcome])
    return f"{counted(claims, 'claim')}{several}: {outcomes}"


def _who(claim: ClaimSummary, names: Mapping[tuple[str, str], str]) -> str:
    if not claim.arm:
        return ""
    arms = [claim.arm, claim.against] if claim.against else [claim.arm]
    return f" ({' against '.join(names[claim.ablation, arm] for arm in arms)})"


def _claim_numbers(claim: ClaimSummary, summary: Summary) -> str:
    question = next(one for one in summary.ablations if one.name == claim.ablation)
    unit = unit_of(summary, question) if claim.metric == summary.metric else claim.unit
    if claim.value is None:
        return f": {claim.reason}" if claim.reason else ""
    is_measured = claim.bound is not None
    value = f"{unit.value(claim.value)}{unit.suffix}" if is_measured else f"{unit.signed(claim.value)}{unit.points}"
    low, high = claim.interval or (None, None)
    between = f"[{unit.value(low)}, {unit.value(high)}]" if is_measured else unit.interval(claim.interval)
    reason = f"; {claim.reason}" if claim.reason else ""
    return f": {unit.name} {value} {between if claim.interval else ''}".rstrip() + reason


def anchor(title: str) -> str:
    """Return the anchor that code-hosting sites give to a heading."""
    kept = "".join(character for character in title.lower() if character.isalnum() or character in " -_")
    return kept.replace(" ", "-")


def notes(ablation: AblationSummary) -> Iterator[str]:
    """Yield what a reader of a question's table must know of its arms, a sentence each."""
    for arm in ablation.arms:
        if arm.verdict == "invalid":
            yield f"{arm.marked_name} is invalid: {arm.reason}."
        if arm.failed:
            failed = ", ".join(f"{seed} ({why})" for seed, why in arm.failed.items())
            yield f"Failed seeds of {arm.marked_name}: {failed}."
        if arm.disagrees:
            yield f"{arm.marked_name}: the sign-flip test and the t-test fall on different sides of 5 %."
    for arm in ablation.arms:
        yield from _caveat_notes(arm)
    uncounted = [f"{arm.marked_name} ({', '.join(arm.uncounted)})" for arm in ablation.arms if arm.uncounted]
    if uncounted:
        yield f"A `+` marks arms with layers whose FLOPs are not counted: {listed(uncounted)}."
    if ablation.no_effects and len(ablation.factors) == 1:  # of more factors, the answer says so
        yield f"The factor's effects cannot be told: {ablation.no_effects}."
    yield from filter(None, (cost_note(ablation), published_note(ablation)))


def _caveat_notes(arm: ArmSummary) -> Iterator[str]:
    told = [caveat for caveat in arm.caveats if not (arm.reason and arm.reason in caveat)]
    if told:
        yield f"Caveats of {arm.marked_name}: {'; '.join(told)}."
    elif arm.together and arm.verdict != "invalid":
        yield f"{arm.marked_name} moves {counted(len(arm.set), 'setting')} as one factor: {arm.together}."


def cost_note(ablation: AblationSummary) -> str:
    """Return what the sign means that arms of a question carry, or "" where none does; how much more is a caveat."""
    more = [arm.marked_name for arm in ablation.arms if arm.costlier]
    return f"{COSTLIER_SIGN.strip()} costs over 5 % more than the base: {', '.join(more)}." if more else ""


def published_note(ablation: AblationSummary) -> str:
    """Return the test of published accuracies, or "" where nobody tells on how many examples they stand."""
    examples, base = ablation.published_pictures, ablation.base
    lines = [
        f"{round(base.published['accuracy'] * examples)} of {examples:,} right for the base and "
        f"{round(arm.published['accuracy'] * examples)} for {arm.marked_name}, "
        f"Fisher's exact p = {p_value(arm.published_p)}"
        for arm in ablation.arms[1:]
        if arm.published_p is not None
    ]
    if not lines:
        return ""
    left_out = "A p-value of single runs leaves out what another seed would change."
    return f"Published accuracies, one run each: {'; '.join(lines)}. {left_out}"


__all__ = [
    "Table",
    "anchor",
    "arm_table",
    "claim_table",
    "cost_note",
    "cost_table",
    "effect_table",
    "fairness_line",
    "fairness_table",
    "mark",
    "notes",
    "published_note",
    "run_table",
    "sure_table",
    "timed_note",
]
