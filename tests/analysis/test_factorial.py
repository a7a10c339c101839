"""The effects of a question's factors, and why there are none where that is so."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from makers import FakeStore, record

from stn_bench.analysis.analyse import analyse
from stn_bench.analysis.factorial import never_told
from stn_bench.analysis.summarise import summarise
from stn_bench.analysis.summary import AblationSummary
from stn_bench.report.sentences import answer
from stn_bench.report.tables import notes
from stn_bench.settings import Settings
from stn_bench.study.catalogue import read_ablation
from stn_bench.study.plan import Plan, make_plan
from stn_bench.study.spec import Study
from stn_bench.subject import Metric, Subject, find_subject
from stn_bench.system.format import Unit
from stn_bench.tracking.results import gather

TOY = find_subject("toy")
UNIT = Unit.of("test.score", is_fraction=True)
SPREAD = (0.5, 0.51, 0.505, 0.512, 0.508)
CROSSED = {"depth": [2, 3], "gate": ["open", "none"]}


def planned(factors: Mapping[str, Sequence[Any]], keep: Sequence[str] | None = None, **study: Any) -> Plan:
    tree = {"title": "Depth", "question": "Does depth matter?", "factors": {path: [*x] for path, x in factors.items()}}
    question = read_ablation(tree, "depth", TOY, "depth.toml")
    if keep is not None:
        question = question.model_copy(update={"arms": tuple(arm for arm in question.arms if arm.name in keep)})
    fixed = {"title": "A", "subject": "toy", "ablations": ["depth"], "seeds": (1, 2, 3, 4, 5)}
    return make_plan(Study("small", **{**fixed, **study}), (question,), TOY)


def found(plan: Plan, seeds: int = 5, failed: Sequence[tuple[str, int]] = ()) -> AblationSummary:
    """Return the question, each arm a tenth ahead of the one before it, where some diverged on some seeds."""
    runs = []
    for number, one in enumerate(plan.arms):
        for spec, value in itertools.islice(zip(one.verdict_specs({}), SPREAD, strict=False), seeds):
            outcome = "diverged" if (one.name, spec.seed) in failed else "finished"
            score = value + 0.1 * number + 0.001 * (number * spec.seed % 3)
            run = record(spec, f"{one.label}-{spec.seed}", outcome=outcome, test_score=score)
            runs.append(run.model_copy(update={"subject": "toy"}))
    return summarise(analyse(gather(plan, FakeStore(*runs), Path("nowhere")))).ablations[0]


def test_sound_combinations_have_their_effects() -> None:
    told = found(planned(CROSSED))
    assert [dict(one.levels) for one in told.effects] == [{"depth": 3}, {"gate": "none"}, {"depth": 3, "gate": "none"}]
    assert told.no_effects == ""


def test_an_invalid_combination_has_no_effects_and_the_reason_is_told() -> None:
    failed = [("3_none", 4), ("3_none", 5)]
    told = found(planned(CROSSED), failed=failed)
    assert (told.effects, told.no_effects) == ((), "`3_none` is invalid, 2 of 5 seeds of `3_none` failed")
    assert answer(told, UNIT).endswith(f"cannot be told: {told.no_effects}.")
    assert len(found(planned(CROSSED, max_failed=2), failed=failed).effects) == 3


def test_a_failed_base_leaves_no_effects() -> None:
    assert found(planned(CROSSED), failed=[("base", 1)]).no_effects.endswith("1 of 5 seeds of `base` failed")


def test_combinations_of_unequal_budget_have_no_effects() -> None:
    told = found(planned({"depth": [2, 3], "epochs": [3, 6]}))
    assert (told.effects, told.no_effects) == ((), "`2_6` is invalid, unequal budget: `epochs` 6 against 3")


def test_a_single_factor_has_effects_and_acts_together_with_nothing() -> None:
    told = found(planned({"depth": [2, 3, 4]}))
    assert len(told.effects) == 2
    assert "together" not in answer(told, UNIT)
    failed = found(planned({"depth": [2, 3, 4]}), failed=[("4", 1)])
    assert failed.effects == ()
    assert "together" not in answer(failed, UNIT)
    assert "The factor's effects cannot be told: `4` is invalid, 1 of 5 seeds of `4` failed." in list(notes(failed))


def test_a_single_factor_may_leave_the_bases_level_out() -> None:
    plan = planned({"depth": [3, 4]})
    assert never_told(plan.questions[0]) == ""
    assert len(found(plan).effects) == 2


def test_a_base_beyond_the_factors_levels_is_said_to_be_the_reason() -> None:
    plan = planned({"depth": [3, 4], "gate": ["open", "none"]})
    assert never_told(plan.questions[0]) == "the base has `depth` = 2, which [factors] does not name"
    assert found(plan).no_effects == never_told(plan.questions[0])


def test_combinations_that_a_study_leaves_out_are_said_to_be_the_reason() -> None:
    plan = planned(CROSSED, keep=["3_open", "2_none"])
    assert never_told(plan.questions[0]) == "1 of 4 combinations left out, such as `depth` = 3 and `gate` = none"
    assert found(plan).no_effects == never_told(plan.questions[0])


@pytest.mark.parametrize(("looks", "seeds", "count"), [((), 4, "5"), ((3, 5), 2, "3")])
def test_what_is_awaited_is_the_first_look_that_can_tell(looks: tuple[int, ...], seeds: int, count: str) -> None:
    plan = planned(CROSSED, looks=looks) if looks else planned(CROSSED)
    assert found(plan, seeds).no_effects == f"it takes {count} seeds of every combination"


def test_failures_that_the_study_allows_may_leave_too_few_seeds() -> None:
    told = found(planned(CROSSED, max_failed=3), failed=[("base", 1), ("2_none", 2), ("3_open", 3)])
    assert told.no_effects == "fewer than 3 seeds finished in every combination"


class Layered(Settings):
    layers: tuple[int, ...] = (8, 8)
    rate: float = 0.1


def test_levels_may_be_lists() -> None:
    subject = Subject("layered", Layered, lambda settings, seed, run: {}, (Metric("test.score", "a score"),))
    factors = {"layers": [[8, 8], [16]], "rate": [0.1, 0.2]}
    question = read_ablation({"title": "L", "question": "L?", "factors": factors}, "layers", subject, "layers.toml")
    assert [arm.name for arm in question.arms] == ["8_8_0_2", "16_0_1", "16_0_2"]
    study = Study("small", title="A", subject="layered", ablations=["layers"], seeds=(1, 2, 3))
    assert never_told(make_plan(study, (question,), subject).questions[0]) == ""
