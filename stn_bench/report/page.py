"""The page: a summary as Markdown that reads well on a code-hosting site and as plain text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from stn_bench.catalogue import BASE
from stn_bench.metrics import METRICS
from stn_bench.plan import COSTLIER_SIGN
from stn_bench.report.claims import ClaimSummary
from stn_bench.report.figures import in_short
from stn_bench.report.summary import MARKED_COSTS, AblationSummary, ArmSummary, Summary

SMALLEST_P = 0.001


@dataclass(frozen=True)
class Unit:
    """How values of a metric are written: fractions as per cent and points, anything else as it is."""

    name: str
    scale: float
    digits: int
    suffix: str
    points: str

    @classmethod
    def of(cls, metric: str) -> Unit:
        """Return the unit of a metric."""
        if metric.endswith("accuracy"):
            return cls(metric.replace(".", " "), 100.0, 2, " %", " points")
        return cls(metric.replace(".", " "), 1.0, 4, "", "")

    def value(self, value: float | None) -> str:
        """Return a value without its suffix, or a dash where there is none."""
        return "–" if value is None else f"{value * self.scale:.{self.digits}f}".replace("-", "−")

    def signed(self, value: float | None) -> str:
        """Return a difference with its sign, or a dash where there is none."""
        return "–" if value is None else f"{value * self.scale:+.{self.digits}f}".replace("-", "−")

    def interval(self, interval: tuple[float, float] | None) -> str:
        """Return an interval in brackets, or "" where there is none."""
        return "" if interval is None else f"[{self.signed(interval[0])}, {self.signed(interval[1])}]"


def render_page(summary: Summary, figures: Mapping[str, Sequence[tuple[str, str]]]) -> str:
    """Return `report.md`.

    Args:
        summary: the study.
        figures: ablation -> (file, caption) of each of its figures, in order.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("stn_bench.report"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # the page is Markdown, and its words come from the study's own files
    )
    unit = Unit.of(summary.metric)
    return environment.get_template("report.md.j2").render(
        summary=summary,
        unit=unit,
        metric_meaning=METRICS[summary.metric],
        figures=figures,
        answers=[answer(arm, ablation, unit) for ablation in summary.ablations for arm in ablation.arms[1:]],
        claim_table=lambda: claim_table(summary),
        arm_table=lambda ablation: arm_table(ablation, unit),
        cost_table=cost_table,
        cost_note=cost_note,
        published_note=published_note,
        is_costlier=any(arm.costlier for ablation in summary.ablations for arm in ablation.arms),
        run_table=lambda: run_table(summary, unit),
        base_settings=settings_in_words(summary.base),
        settings_in_words=settings_in_words,
    )


def answer(arm: ArmSummary, ablation: AblationSummary, unit: Unit) -> str:
    """Return one arm's verdict as a sentence."""
    who = f"`{arm.label}`{mark(arm)} ({settings_in_words(arm.set)})"
    if arm.verdict == "invalid":
        return f"{who}: **invalid**, {arm.reason}."
    if arm.difference is None:
        return f"{who}: no result yet, {len(arm.seeds)} of {arm.planned} seeds finished."
    size = f"{unit.signed(arm.difference)}{unit.points}"
    between = f" {unit.interval(arm.interval)}" if arm.interval else ""
    return f"{who}: **{arm.verdict}**, {size}{between} against the base, ahead on {arm.wins} of {arm.pairs} seeds."


def mark(arm: ArmSummary) -> str:
    """Return the sign of an arm that costs over 5 % more than its base."""
    return COSTLIER_SIGN if arm.costlier else ""


def cost_note(ablation: AblationSummary) -> str:
    """Return what the sign means for the arms of a question, or ""."""
    more = [f"`{arm.name}` ({_costlier(arm)})" for arm in ablation.arms if arm.costlier]
    return f"{COSTLIER_SIGN.strip()} costs over 5 % more than the base: {', '.join(more)}." if more else ""


def _costlier(arm: ArmSummary) -> str:
    return ", ".join(f"{MARKED_COSTS[name]} +{100 * over:.0f} %" for name, over in arm.costlier.items())


def published_note(ablation: AblationSummary) -> str:
    """Return what the published accuracies can carry, or "" where nobody tells on how many pictures they stand."""
    pictures, base = ablation.published_pictures, ablation.base
    lines = [
        f"{round(base.published['accuracy'] * pictures)} of {pictures:,} right for the base and "
        f"{round(arm.published['accuracy'] * pictures)} for `{arm.name}`, one run each: "
        f"Fisher's exact p = {p_value(arm.published_p)}"
        for arm in ablation.arms[1:]
        if arm.published_p is not None
    ]
    if not lines:
        return ""
    return (
        f"What the published accuracies can carry: {'; '.join(lines)}. What another seed would do is not even in it."
    )


def claim_table(summary: Summary) -> str:
    """Return the table that the report opens with: each claim, what was asked here, what came out."""
    titles = {ablation.name: ablation.title for ablation in summary.ablations}
    signs = {(ablation.name, arm.name): mark(arm) for ablation in summary.ablations for arm in ablation.arms}
    rows = [
        (
            claim.says,
            f"{claim.asked}{_who(claim, signs)}",
            f"**{claim.outcome}**{_claim_numbers(claim)}",
            f"[{claim.ablation}](#{anchor(titles[claim.ablation])})",
        )
        for claim in summary.claims
    ]
    return markdown_table(("claim", "asked here", "what came out", "section"), rows)


def _who(claim: ClaimSummary, signs: Mapping[tuple[str, str], str]) -> str:
    if not claim.arm:
        return ""
    arms = [claim.arm, claim.against] if claim.against else [claim.arm]
    return f" ({' against '.join(f'`{arm}`{signs[claim.ablation, arm]}' for arm in arms)})"


def _claim_numbers(claim: ClaimSummary) -> str:
    unit = Unit.of(claim.metric)
    if claim.value is None:
        return f": {claim.reason}" if claim.reason else ""
    is_measured = claim.bound is not None
    value = f"{unit.value(claim.value)}{unit.suffix}" if is_measured else f"{unit.signed(claim.value)}{unit.points}"
    low, high = claim.interval or (None, None)
    between = f"[{unit.value(low)}, {unit.value(high)}]" if is_measured else unit.interval(claim.interval)
    return f": {unit.name} {value} {between if claim.interval else ''}".rstrip() + (
        f"; {claim.reason}" if claim.reason else ""
    )


def anchor(title: str) -> str:
    """Return the anchor that code-hosting sites give to a heading."""
    kept = "".join(character for character in title.lower() if character.isalnum() or character in " -_")
    return kept.replace(" ", "-")


def arm_table(ablation: AblationSummary, unit: Unit) -> str:
    """Return the table of a question: one row an arm, the base first."""
    header = (
        "arm",
        "what it changes",
        "seeds",
        f"{unit.name}{unit.suffix and ','}{unit.suffix}",
        f"difference to base{unit.points and ','}{unit.points} [95 %]",
        "p (Holm)",
        "verdict",
        "published",
    )
    return markdown_table(header, [_arm_row(arm, unit) for arm in ablation.arms])


def _arm_row(arm: ArmSummary, unit: Unit) -> tuple[str, ...]:
    changes = settings_in_words(arm.set) if arm.set else "–"
    tuned = f"; tuned: {settings_in_words(arm.chosen)}" if arm.chosen else ""
    spread = f"{unit.value(arm.mean)} ± {unit.value(arm.sd)}" if arm.sd is not None else unit.value(arm.mean)
    is_base = arm.name == BASE
    return (
        f"`{arm.name}`{mark(arm)}",
        changes + tuned,
        f"{len(arm.seeds)}/{arm.planned}" + (f", {len(arm.failed)} failed" if arm.failed else ""),
        spread,
        "–" if is_base else f"{unit.signed(arm.difference)} {unit.interval(arm.interval)}".strip(),
        "–" if is_base else p_value(arm.p_adjusted),
        "–" if is_base else arm.verdict or "–",
        ", ".join(f"{name} {value:g}" for name, value in arm.published.items()) or "–",
    )


def cost_table(ablation: AblationSummary) -> str:
    """Return what each arm of a question costs, and by how much that differs from the base's."""
    header = ("arm", "parameters", "FLOPs a picture", "training", "CPU time", "a step", "peak memory")
    return markdown_table(header, [_cost_row(arm, ablation.base) for arm in ablation.arms])


def _cost_row(arm: ArmSummary, base: ArmSummary) -> tuple[str, ...]:
    uncounted = "+" if arm.uncounted else ""
    return (
        f"`{arm.name}`{mark(arm)}",
        _cost(arm.parameters, base.parameters, in_short),
        _cost(arm.flops, base.flops, lambda flops: in_short(flops) + uncounted),
        _cost(arm.seconds, base.seconds, lambda seconds: f"{seconds:.0f} s"),
        _cost(arm.cpu_seconds, base.cpu_seconds, lambda seconds: f"{seconds:.0f} s"),
        _cost(arm.step_ms, base.step_ms, lambda step: f"{step:.0f} ms"),
        _cost(arm.peak_memory_mb, None, lambda memory: f"{memory:.0f} MiB"),
    )


def _cost(value: float | None, base: float | None, write: Callable[[float], str]) -> str:
    return "–" if value is None else write(value) + _relative(value, base)


def _relative(value: float, base: float | None) -> str:
    if not base or value == base:
        return ""
    return f" ({100 * (value / base - 1):+.0f} %)".replace("-", "−")


def run_table(summary: Summary, unit: Unit) -> str:
    """Return every verdict run once, with its MLflow id."""
    rows = {
        run_id: (f"`{arm.label}`{mark(arm)}", str(seed), unit.value(value), f"`{run_id}`")
        for ablation in summary.ablations
        for arm in ablation.arms
        for seed, value, run_id in zip(arm.seeds, arm.values, arm.run_ids, strict=True)
    }
    metric = f"{unit.name}{unit.suffix and ','}{unit.suffix}"
    return markdown_table(("arm", "seed", metric, "run"), list(rows.values()))


def p_value(p: float | None) -> str:
    """Return a p-value with three digits."""
    if p is None or math.isnan(p):
        return "–"
    return f"< {SMALLEST_P}" if p < SMALLEST_P else f"{p:.3f}"


def settings_in_words(settings: Mapping[str, Any]) -> str:
    """Return settings as `path` = value, separated by commas."""
    return ", ".join(f"`{path}` = {_plain(value)}" for path, value in settings.items())


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table whose columns line up in plain text too."""
    rows = [tuple(cell.replace("|", "\\|") for cell in row) for row in rows]
    widths = [max(len(row[column]) for row in (tuple(header), *rows)) for column in range(len(header))]
    lines = [_line(header, widths), "|" + "|".join("-" * (width + 2) for width in widths) + "|"]
    return "\n".join([*lines, *(_line(row, widths) for row in rows)])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"
