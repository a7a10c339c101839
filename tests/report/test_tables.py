"""The cells of the report's tables and the notes beneath them, from hand-made results."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from makers import FakeStore, ablation, arm, plan, record

from stn_bench.analysis.analyse import Analysis, analyse
from stn_bench.analysis.summarise import summarise
from stn_bench.analysis.summary import AblationSummary, Summary
from stn_bench.report import tables as columns
from stn_bench.report.figures import illustrations, path_of
from stn_bench.report.page import render_page
from stn_bench.report.sentences import WORDS
from stn_bench.report.side_tables import settings_table
from stn_bench.study.catalogue import bundled_root
from stn_bench.study.plan import Plan
from stn_bench.study.spec import Ablation
from stn_bench.subjects.stn.files import PREDICTIONS
from stn_bench.system.format import Unit
from stn_bench.tracking.record import RunRecord
from stn_bench.tracking.results import gather

NOWHERE = Path("nowhere")
POINTS = Unit.of("test.accuracy", is_fraction=True)
BASE = (0.90, 0.92, 0.94, 0.91, 0.93, 0.92)
BETTER = (0.95, 0.965, 0.98, 0.96, 0.975, 0.965)
NOISY = (0.80, 0.99, 0.93, 0.95, 0.86, 0.97)
Values = Mapping[str, Sequence[float]]


def gathered(planned: Plan, values: Values, *trials: RunRecord) -> Analysis:
    """Return the analysis of results with one run for each value of each arm, by the arm's name."""
    runs = [
        record(spec, f"{one.name}{spec.seed}", test_accuracy=value)
        for one in planned.arms
        for spec, value in zip(one.verdict_specs({}), values.get(one.name, ()), strict=False)
    ]
    return analyse(gather(planned, FakeStore(*runs, *trials), NOWHERE))


def summed(values: Values, *, widths: Mapping[str, float] | None = None, **study: Any) -> Summary:
    arms = [arm(name, {"model.width": width}) for name, width in (widths or {"wide": 2.0}).items()]
    return summarise(gathered(plan(ablation(*arms), **study), values))


def cells(table: columns.Table, row: str) -> dict[str, str]:
    found = next(cells for cells in table.rows if cells[0].startswith(row))
    return dict(zip(table.header, found, strict=True))


def verdict_cell(summary: Summary) -> str:
    return cells(columns.arm_table(summary.ablations[0], POINTS, len(summary.looks)), "`wide`")["verdict"]


# The main table --------------------------------------------------------------------------------------------------


def test_an_undecided_arm_tells_about_how_many_seeds_are_missing() -> None:
    found = summed({"base": BASE[:3], "wide": NOISY[:3]})
    assert found.ablations[0].arms[1].more_seeds is not None
    assert verdict_cell(found) == f"undecided, roughly {found.ablations[0].arms[1].more_seeds} more seeds"


def test_an_arm_that_stopped_tells_its_look_and_its_level() -> None:
    found = summed({"base": BASE[:3], "wide": BETTER[:3]}, seeds=(1, 2, 3, 4, 5, 6), looks=(3, 6))
    assert verdict_cell(found) == "better, stopped at look 1 of 2, 97.5 % interval"
    assert "difference to base, points [97.5 %]" in columns.arm_table(found.ablations[0], POINTS, 2).header


def test_a_study_whose_arms_are_all_decided_waits_for_no_run() -> None:
    found = summed({"base": BASE[:3], "wide": BETTER[:3]}, seeds=(1, 2, 3, 4, 5, 6), looks=(3, 6))
    assert (found.planned_runs, found.finished_runs, found.missing_runs) == (6, 6, 0)
    page = render_page(found, {})
    assert "not finished" not in page
    assert "6 of 6 runs finished" in page
    open_one = summed({"base": BASE[:3], "wide": NOISY[:3]}, seeds=(1, 2, 3, 4, 5, 6), looks=(3, 6))
    assert open_one.missing_runs == 6


def test_a_column_of_published_numbers_stands_only_where_there_are_some() -> None:
    found = summed({"base": BASE[:3], "wide": BETTER[:3]})
    assert "published" not in columns.arm_table(found.ablations[0], POINTS).header


# How sure --------------------------------------------------------------------------------------------------------


def test_how_sure_by_hand() -> None:
    row = cells(columns.sure_table(summed({"base": BASE[:3], "wide": BETTER[:3]}).ablations[0], POINTS), "`wide`")
    assert row["wins of pairs"] == "3/3"
    assert row["P(arm > base) [95 %]"] == "[0.29, 1.00]"  # 0.025^(1/3) = 0.292
    assert row["seed correlation"] == "1.00"
    assert row["standard error from seeds, points"] == "0.29"  # differences 5, 4.5 and 4 points: SD 0.5, over √3
    assert "p of sign flips" not in row  # not below six pairs
    assert "from pictures, points" not in row  # the pictures were not kept


def test_where_less_is_better_the_chance_is_that_of_less() -> None:
    found = summed({"base": BASE[:3], "wide": BETTER[:3]})
    assert "P(arm < base) [95 %]" in columns.sure_table(found.ablations[0], POINTS, direction="minimize").header


def test_a_loser_has_the_mirrored_interval() -> None:
    table = columns.sure_table(summed({"base": BETTER[:3], "wide": BASE[:3]}).ablations[0], POINTS)
    assert cells(table, "`wide`")["P(arm > base) [95 %]"] == "[0.00, 0.71]"


def test_sign_flips_are_shown_from_six_pairs_on() -> None:
    seeds = (1, 2, 3, 4, 5, 6)
    table = columns.sure_table(summed({"base": BASE, "wide": BETTER}, seeds=seeds).ablations[0], POINTS)
    assert cells(table, "`wide`")["p of sign flips"] == "0.031"  # 2 of 2^6 flips


def test_a_second_opinion_that_disagrees_is_flagged_and_noted() -> None:
    found = summed({"base": BASE, "wide": BETTER}, seeds=(1, 2, 3, 4, 5, 6)).ablations[0]
    doubtful = found.model_copy(
        update={"arms": (found.base, found.arms[1].model_copy(update={"p": 0.03, "sign_flip_p": 0.0625}))}
    )
    assert cells(columns.sure_table(doubtful, POINTS), "`wide`")["p of sign flips"] == "0.062, disagrees"
    assert any("different sides of 5 %" in note for note in columns.notes(doubtful))
    assert not any("different sides of 5 %" in note for note in columns.notes(found))


def test_pictures_have_a_part_of_their_own_where_they_are_known(tmp_path: Path) -> None:
    def artifact(run_id: str, path: str) -> Path:
        assert path == PREDICTIONS
        read = np.random.default_rng(list(run_id.encode())).integers(0, 2, 50)
        np.savez(tmp_path / "p.npz", labels=np.ones(50, np.int64), predicted=read)
        return tmp_path / "p.npz"

    planned = plan(ablation(arm("wide", {"model.width": 2.0})))
    found = gathered(planned, {"base": BASE[:3], "wide": BETTER[:3]})
    row = cells(columns.sure_table(summarise(found, artifact).ablations[0], POINTS, "picture"), "`wide`")
    assert float(row["from pictures, points"]) > 0


# Notes -----------------------------------------------------------------------------------------------------------


def test_caveats_stand_under_the_table_once() -> None:
    found = summed({"base": BASE[:3], "wide": BETTER[:3]}).ablations[0]
    flagged = found.arms[1].model_copy(
        update={
            "caveats": ("moves a lot", "unequal budget: 0 against 1; invalid"),
            "reason": "unequal budget: 0 against 1",
        }
    )
    notes = list(columns.notes(found.model_copy(update={"arms": (found.base, flagged)})))
    assert "Caveats of `wide`: moves a lot." in notes


def test_settings_that_go_together_say_why() -> None:
    both = arm("both", {"model.width": 2.0, "model.dropout": 0.1}, together="they are one")
    found = summarise(gathered(plan(ablation(both)), {"base": BASE[:3], "both": BETTER[:3]})).ablations[0]
    assert any("moves 2 settings as one factor: they are one" in note for note in columns.notes(found))


# Fairness --------------------------------------------------------------------------------------------------------


def test_arms_that_were_given_the_same_share_a_line() -> None:
    found = summed({"base": BASE[:3], "wide": BETTER[:3]}).ablations[0]
    assert columns.fairness_table(found) is None
    assert columns.fairness_line(found) == "Every arm alike: no tuning, 400 epochs, 8,000 training pictures."


def test_arms_that_were_given_unequal_budgets_stand_in_a_table() -> None:
    planned = plan(ablation(arm("fast", {"optimizer.learning_rate": 0.1}, tuned=False)), trials=2)
    found = summarise(gathered(planned, {"fast": BASE[:3]})).ablations[0]
    assert columns.fairness_line(found) == ""
    table = columns.fairness_table(found)
    assert table is not None
    assert table.rows == (("`base`", "2", "1", "400", "8,000"), ("`fast`", "0", "0", "400", "8,000"))


# Factors and tuning ----------------------------------------------------------------------------------------------

LEVELS = {"model.activation": ("relu", "sigmoid"), "model.norm.position": ("after", "before")}


def crossed(*left_out: str) -> Ablation:
    arms = [
        arm(f"{activation}_{position}", {"model.activation": activation, "model.norm.position": position})
        for activation, position in itertools.product(*LEVELS.values())
    ]
    return ablation(*(one for one in arms[1:] if one.name not in left_out), factors=LEVELS)


CELLS = {"base": BASE, "relu_before": BASE, "sigmoid_after": NOISY, "sigmoid_before": BETTER}


def factorial(*left_out: str) -> tuple[Plan, Analysis, AblationSummary]:
    planned = plan(crossed(*left_out), seeds=(1, 2, 3, 4, 5, 6))
    analysis = gathered(planned, CELLS)
    return planned, analysis, summarise(analysis).ablations[0]


def test_effects_stand_in_a_table_with_their_intervals() -> None:
    _, _, found = factorial()
    table = columns.effect_table(found, POINTS)
    assert [row[0] for row in table.rows] == [
        "`model.activation` = sigmoid",
        "`model.norm.position` = before",
        "`model.activation` = sigmoid × `model.norm.position` = before",
    ]
    both = np.mean(BETTER) - np.mean(NOISY) - np.mean(BASE) + np.mean(BASE)
    assert table.rows[2][1].startswith(f"{100 * both:+.2f} [")


def test_a_factor_question_has_an_interaction_plot() -> None:
    planned, analysis, found = factorial()
    paths = [path_of(one) for one in illustrations(planned.questions[0], found, analysis, lambda *_: NOWHERE)]
    assert "figures/depth_factors.png" in paths


@pytest.mark.parametrize(("seeds", "said"), [(6, ""), (4, "; of the seeds that every combination has, 1–4")])
def test_an_interaction_plot_says_of_which_seeds_it_is_where_arms_have_others_too(seeds: int, said: str) -> None:
    planned = plan(crossed(), seeds=(1, 2, 3, 4, 5, 6), looks=(4, 6))
    analysis = gathered(planned, {**CELLS, "sigmoid_before": BETTER[:seeds]})
    drawn = illustrations(planned.questions[0], summarise(analysis).ablations[0], analysis, lambda *_: NOWHERE)
    (caption,) = (one.caption for one in drawn if one.name.endswith("_factors"))
    assert caption.endswith(f"lines that are not parallel are an interaction{said}")


def test_a_study_that_leaves_combinations_out_has_no_effects() -> None:
    planned, analysis, found = factorial("sigmoid_before")
    assert found.effects == ()
    paths = [path_of(one) for one in illustrations(planned.questions[0], found, analysis, lambda *_: NOWHERE)]
    assert "figures/depth_factors.png" not in paths


def test_a_tuned_question_draws_what_more_trials_would_bring() -> None:
    planned = plan(ablation(arm("wide", {"model.width": 2.0})), trials=2)
    trials = [
        record(spec, f"t{one.name}{spec.trial}", **{"best.validation.accuracy": 0.5 + 0.1 * (spec.trial or 0)})
        for one in planned.arms
        for spec in one.tuning_specs()
    ]
    analysis = gathered(planned, {}, *trials)
    found = summarise(analysis).ablations[0]
    assert found.expected_best == {"base": (0.55, 0.6), "wide": (0.55, 0.6)}
    paths = [path_of(one) for one in illustrations(planned.questions[0], found, analysis, lambda *_: NOWHERE)]
    assert paths == ["figures/depth_tuning.png"]


@pytest.mark.parametrize("wide", [(), BASE[:1], BASE[:2], NOISY[:3], BETTER])
@pytest.mark.parametrize("base", [(), BASE[:1], BASE])
def test_a_page_can_be_made_of_whatever_there_is(base: tuple[float, ...], wide: tuple[float, ...]) -> None:
    page = render_page(summed({"base": base, "wide": wide}, seeds=(1, 2, 3, 4, 5, 6), looks=(3, 6)), {})
    assert not re.search(r"\bNone\b|\bnan\b|\binf\b", page)


# The guide -------------------------------------------------------------------------------------------------------


def test_the_guide_explains_every_column_and_every_word() -> None:
    guide = (bundled_root() / "docs/statistics.md").read_text(encoding="utf-8")
    found = summed({"base": BASE, "wide": BETTER}, seeds=(1, 2, 3, 4, 5, 6)).ablations[0]
    told = found.model_copy(update={"arms": (found.base, found.arms[1].model_copy(update={"example_se": 0.1}))})
    tables = columns.arm_table(told, POINTS), columns.sure_table(told, POINTS, "picture")
    assert len(tables[1].header) == 11
    for heading in itertools.chain(*(table.header for table in tables), ["published"], WORDS):
        name = heading.partition(" [")[0].partition(",")[0]
        assert name.lower() in guide.lower(), heading


def test_what_an_arm_of_many_settings_sets_stands_once_and_whole() -> None:
    """Its row names the first; whoever wants all of them unfolds a table, in which other arms have no column."""
    many = {
        "model.width": 2.0,
        "model.dropout": 0.5,
        "train.epochs": 3,
        "train.batch_size": 8,
        "optimizer.learning_rate": 0.01,
    }
    arms = [arm("many", many, together="a recipe"), arm("few", dict(list(many.items())[:4]), together="part of it")]
    analysis = gathered(plan(ablation(*arms)), {"base": BASE, "many": BETTER, "few": BETTER})
    summary = summarise(analysis)
    shown = columns.arm_table(summary.ablations[0], POINTS)
    assert cells(shown, "`many`")[columns.WHAT] == "`model.width` = 2 and 4 more settings"
    assert cells(shown, "`few`")[columns.WHAT].count(" = ") == 4
    table = settings_table(summary.ablations[0])
    assert table
    assert table.header == ("setting", "`many`")
    assert [row[0].strip("`") for row in table.rows] == list(many)
    page = render_page(summary, {})
    assert page.count("All that the arms of many settings set") == 1
    assert "| `train.batch_size` " in page
    assert settings_table(summed({"base": BASE, "wide": BETTER}).ablations[0]) is None
