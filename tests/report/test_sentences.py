"""What came of a question, in words: they must read well for every arm that there is, whatever became of it."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from stn_bench.analysis.summary import AblationSummary, ArmSummary, ConfirmationSummary, EffectSummary
from stn_bench.report.sentences import (
    WORDS,
    answer,
    confirmed,
    each,
    headline,
    interplay,
    ranked,
    seeds_in_words,
    sentence,
)
from stn_bench.study.catalogue import Catalogue, bundled_root
from stn_bench.subject import find_subject
from stn_bench.subjects.stn.config import Config
from stn_bench.system.format import Unit

CATALOGUE = Catalogue(bundled_root())
POINTS, LOSS = Unit.of("test.accuracy", is_fraction=True), Unit.of("test.loss", is_fraction=False)
PARTS = find_subject("stn").parts
EMPTY: dict[str, Any] = dict.fromkeys(
    ("mean", "sd", "parameters", "flops", "seconds", "cpu_seconds", "cpu_step_ms", "peak_memory_mb")
)


def summed(name: str, settings: Mapping[str, Any], verdict: str | None = "worse", **rest: Any) -> ArmSummary:
    """Return an arm that loses 1.2 points, or gains them, on all of five seeds."""
    difference = 0.012 if verdict == "better" else -0.012
    numbers: dict[str, Any] = {
        "difference": difference,
        "interval": tuple(sorted((difference / 1.5, difference / 0.75))),
        "pairs": 5,
        "wins": 5 if verdict == "better" else 0,
        "losses": 0 if verdict == "better" else 5,
        "seeds": (1, 2, 3, 4, 5),
        "values": (0.9,) * 5,
        "reason": "1 of 5 seeds failed" if verdict == "invalid" else "",
        "more_seeds": 7 if verdict == "undecided" else None,
    }
    fixed = {"label": name, "chosen": {}, "planned": 5, "failed": {}, "layers": (), "uncounted": (), "published": {}}
    gone = {path: PARTS[path] for path, value in settings.items() if path in PARTS and value == "none"}
    matched = {path: value for path, value in settings.items() if rest.get("match") and path == "model.width"}
    fields = {**EMPTY, **fixed, **numbers, "run_ids": ("r",) * 5, "without": gone, "matched": matched, **rest}
    return ArmSummary(name=name, set=dict(settings), verdict=verdict, **fields)


def asked(*arms: ArmSummary, **rest: Any) -> AblationSummary:
    base = summed("base", {}, None, difference=None, interval=None)
    text = {"name": "q", "title": "Q", "question": "Q?", "source": "", "published_pictures": 0, "claims": ()}
    return AblationSummary(arms=(base, *arms), **{**text, **rest})


NONE = {"model.transformer.kind": "none"}
PLAIN = summed("none", NONE)
MATCHED = summed(
    "none_matched", {**NONE, "model.width": 0.37}, match="flops", difference=-0.009, interval=(-0.013, -0.005)
)
COMMITTED = [pytest.param(CATALOGUE.ablation(name), id=name) for name in CATALOGUE.names("ablations")]


@pytest.mark.parametrize("verdict", WORDS)
@pytest.mark.parametrize("ablation", COMMITTED)
def test_every_committed_arm_has_a_sentence_that_reads(ablation: Any, verdict: str) -> None:
    arms = []
    for written in ablation.arms:
        width = {"model.width": 0.5} if written.match else {}
        arms.append(summed(written.name, {**written.set, **width}, verdict, match=written.match or ""))
    question = asked(*arms)
    for one in question.arms[1:]:
        said = sentence(one, question, POINTS)
        assert f"`{one.name}`" in said
        assert not re.search(r"None|  |\.\.|,,|model\.width|\.$|nan", said), said
        assert said.count("`") % 2 == said.count("[") - said.count("]") == 0
        amount = {
            "better": "gains 1.20 points [0.80, 1.60], on 5 of 5 seeds",
            "worse": "loses 1.20 points [0.80, 1.60]",
        }
        assert amount.get(verdict, "") in said
    line = answer(question, POINTS)
    assert line.startswith(f"**{verdict.capitalize()}**: ")
    assert "\n" not in line


def test_the_loss_without_a_part_and_what_remains_at_equal_cost() -> None:
    assert sentence(PLAIN, asked(PLAIN, MATCHED), POINTS) == (
        "without the transformer (`none`) the model loses 1.20 points [0.80, 1.60], on 5 of 5 seeds; "
        "of that, 0.90 points [0.50, 1.30] remain at equal FLOPs (`none_matched`)"
    )


@pytest.mark.parametrize(
    ("matched", "said"),
    [
        ({"difference": -0.02, "interval": (-0.03, -0.01)}, "at equal FLOPs (`m`) it loses 2.00 points [1.00, 3.00]"),
        (
            {"verdict": "equivalent", "difference": 0.001, "interval": (-0.002, 0.004)},
            "at equal FLOPs (`m`) nothing beyond the margin remains: +0.10 points [−0.20, +0.40]",
        ),
        (
            {"verdict": "undecided", "difference": 0.001, "interval": (-0.02, 0.022), "more_seeds": 4},
            "at equal FLOPs (`m`) undecided: +0.10 points [−2.00, +2.20] (roughly 4 more seeds)",
        ),
        ({"verdict": "better", "difference": 0.01, "interval": (0.005, 0.015)}, "it gains 1.00 points [0.50, 1.50]"),
        ({"verdict": "invalid", "reason": "it failed"}, "at equal FLOPs (`m`) invalid (it failed)"),
    ],
)
def test_what_remains_at_equal_cost_is_never_more_than_there_was(matched: dict[str, Any], said: str) -> None:
    other = summed("m", {**NONE, "model.width": 0.37}, matched.pop("verdict", "worse"), match="flops", **matched)
    assert sentence(PLAIN, asked(PLAIN, other), POINTS).endswith(said)


def test_an_arm_of_equal_cost_alone_says_so() -> None:
    said = sentence(MATCHED, asked(MATCHED), POINTS)
    assert said.startswith("at the base's FLOPs, without the transformer (`none_matched`) the model loses 0.90 points")


def test_the_best_comes_first_and_the_others_by_verdict() -> None:
    arms = [
        summed("bad", {"model.dropout": 0.1}, "worse"),
        summed("good", {"model.dropout": 0.2}, "better"),
        summed("best", {"model.dropout": 0.3}, "better", difference=0.02, interval=(0.01, 0.03)),
        summed("same", {"model.dropout": 0.4}, "equivalent", difference=0.0, interval=(-0.001, 0.001)),
        summed("open", {"model.dropout": 0.5}, "undecided"),
        summed("few", {"model.dropout": 0.6}, "unreplicated", seeds=(1,), pairs=1),
        summed("unfair", {"model.dropout": 0.7}, "invalid"),
    ]
    assert answer(asked(*arms), POINTS) == (
        "**Better**: with `model.dropout` = 0.3 (`best`) the model gains 2.00 points [1.00, 3.00], on 5 of 5 seeds. "
        "Also `good` +1.20 points [+0.80, +1.60]. "
        "**Worse**: `bad` −1.20 points [−1.60, −0.80]. "
        "**Equivalent**: `same` +0.00 points [−0.10, +0.10]. "
        "**Undecided**: `open` −1.20 points [−1.60, −0.80]. "
        "**Unreplicated**: `few` (1 of 5 seeds finished). "
        "**Invalid**: `unfair` (1 of 5 seeds failed)."
    )


def test_a_headline_has_one_number_and_names_the_others() -> None:
    """Worked by hand: the worst arm leads, its companion of equal cost among the others."""
    wide = summed("wide", {"model.width": 2.0}, "undecided")
    some = asked(wide, MATCHED, PLAIN)
    assert headline(some, POINTS) == (
        "**Worse**: without the transformer (`none`), −1.20 points [−1.60, −0.80]; also `none_matched`; "
        "undecided: `wide`."
    )
    many = asked(PLAIN, *(summed(f"w{n}", {"model.width": float(n)}, "invalid") for n in range(6)))
    assert headline(many, POINTS).endswith("; invalid: `w0`, `w1`, `w2`, `w3` and 2 more.")
    assert headline(asked(), POINTS) == "No arm to compare."
    alone = summed("wide", {"model.width": 2.0}, "undecided")
    assert headline(asked(alone), POINTS) == (
        "**Undecided**: with `model.width` = 2 (`wide`), −1.20 points [−1.60, −0.80] (roughly 7 more seeds)."
    )


@pytest.mark.parametrize(("agrees", "said"), [(True, "bear"), (False, "do not bear")])
def test_a_headline_says_what_fresh_seeds_say(agrees: bool, said: str) -> None:
    fresh: Any = SimpleNamespace(agrees=agrees, reason="")
    found = asked(PLAIN).model_copy(update={"confirmation": fresh})
    assert headline(found, POINTS).endswith(f"; fresh seeds {said} the best of them out.")
    silent: Any = SimpleNamespace(agrees=False, reason="2 of 5 fresh seeds have ended")
    found = asked(PLAIN).model_copy(update={"confirmation": silent})
    assert headline(found, POINTS).endswith(
        "; fresh seeds say nothing of the best of them, 2 of 5 fresh seeds have ended."
    )


def test_of_many_arms_the_line_names_some_and_counts_the_rest() -> None:
    arms = [summed(f"a{i}", {"model.dropout": i / 100}, "equivalent") for i in range(40)]
    line = answer(asked(*arms), POINTS)
    assert line.endswith(" and 35 more.")
    assert len(line) < 500


def test_an_arm_of_equal_cost_never_stands_before_the_one_that_it_completes() -> None:
    worse = summed("none_matched", {**NONE, "model.width": 0.4}, match="flops", difference=-0.05)
    assert [one.name for one in ranked(asked(worse, PLAIN))] == ["none", "none_matched"]


def test_a_loss_rises_or_falls() -> None:
    said = sentence(
        summed("a", {"model.dropout": 0.1}, "better", difference=-0.02, interval=(-0.03, -0.01)), asked(), LOSS
    )
    assert said == "with `model.dropout` = 0.1 (`a`) test loss falls by 0.0200 [0.0100, 0.0300], on 5 of 5 seeds"


def test_an_error_rate_rises_or_falls_too() -> None:
    """Less of it is better, so that the model does not "gain" what it has more of."""
    one = summed("a", {"model.dropout": 0.1}, "better", difference=-0.02, interval=(-0.03, -0.01))
    said = sentence(one, asked(), Unit.of("test.error", is_fraction=True))
    assert said == "with `model.dropout` = 0.1 (`a`) test error falls by 2.00 points [1.00, 3.00], on 5 of 5 seeds"


def test_a_setting_without_a_group_may_take_a_part_away() -> None:
    one = summed("bare", {"memory": "none", "depth": 2}, without={"memory": "the memory"})
    assert sentence(one, asked(one), POINTS).startswith("without the memory and with `depth` = 2 (`bare`) the model")


def test_what_nobody_trained_yet_says_so() -> None:
    nothing = summed("a", {"model.dropout": 0.1}, "unreplicated", difference=None, interval=None, pairs=0, seeds=())
    assert "no seed has finished yet" in sentence(nothing, asked(), POINTS)
    assert answer(asked(nothing), POINTS).startswith("**Unreplicated**: with")


def test_an_undecided_arm_tells_how_many_seeds_would_decide_it() -> None:
    one = summed("a", {"model.dropout": 0.1}, "undecided", more_seeds=1)
    assert sentence(one, asked(), POINTS).endswith("; roughly 1 more seed would decide it")
    many = summed("a", {"model.dropout": 0.1}, "undecided", more_seeds=None)
    assert sentence(many, asked(), POINTS).endswith("; a thousand more seeds might not decide it")


def test_an_arm_that_stopped_early_says_at_which_look() -> None:
    one = summed("a", {"model.dropout": 0.1}, stopped=True, look=1)
    assert sentence(one, asked(), POINTS).endswith("on 5 of 5 seeds, stopped at look 1")


def test_every_part_that_can_be_taken_away_has_a_name() -> None:
    choices = {}
    for path in find_subject("stn").paths:
        *groups, name = path.split(".")
        group = functools.reduce(getattr, groups, Config())
        choices[path] = get_args(type(group).model_fields[name].annotation)
    assert {path for path, values in choices.items() if "none" in values} == set(PARTS)


# Factors and confirmation ----------------------------------------------------------------------------------------


def effect(p: float, **levels: Any) -> EffectSummary:
    named = {name.replace("_", "."): level for name, level in levels.items()}
    return EffectSummary(
        levels=named, value=0.02, interval=(0.01, 0.03), level=0.95, p=p, p_adjusted=p, holm_p=p, pairs=5
    )


def test_an_interaction_that_could_be_shown_is_told() -> None:
    both = effect(0.01, model_width=2, model_dropout=0.1)
    some = asked(
        factors={"model.width": (1, 2), "model.dropout": (0.0, 0.1)}, effects=(effect(0.001, model_width=2), both)
    )
    assert interplay(some, POINTS) == (
        "The factors act together: `model.width` = 2 × `model.dropout` = 0.1: +2.00 points [+1.00, +3.00], "
        "adjusted p 0.010."
    )
    unsure = some.model_copy(update={"effects": (effect(0.5, model_width=2, model_dropout=0.1),)})
    assert "could not be shown" in interplay(unsure, POINTS)


def test_factors_that_cannot_be_told_say_why_and_a_single_one_acts_with_nothing() -> None:
    two = asked(PLAIN, factors={"a": (1, 2), "b": (1, 2)}, no_effects="it takes 5 seeds of every combination")
    assert answer(two, POINTS).endswith(
        " Whether the factors act together cannot be told: it takes 5 seeds of every combination."
    )
    assert interplay(two.model_copy(update={"factors": {"a": (1, 2)}}), POINTS) == ""
    assert interplay(asked(PLAIN), POINTS) == ""


@pytest.mark.parametrize(("agrees", "word"), [(True, "bear that out"), (False, "do not bear that out")])
def test_a_confirmation_shows_both_numbers(agrees: bool, word: str) -> None:
    found = ConfirmationSummary(
        arm="best",
        seeds=(11, 12, 13),
        values=(0.9, 0.9, 0.9),
        base_values=(0.8, 0.8, 0.8),
        selected_difference=0.02,
        selected_interval=(0.01, 0.03),
        difference=0.008,
        interval=(0.002, 0.014),
        p=0.02,
        wins=3,
        agrees=agrees,
    )
    said = confirmed(found, POINTS)
    assert said == (
        f"`best` was chosen at +2.00 points [+1.00, +3.00]; 3 fresh seeds (11–13) {word}: "
        "+0.80 points [+0.20, +1.40], better on 3 of 3, p 0.020."
    )
    question = asked(summed("best", {"model.dropout": 0.1}, "better"), confirmation=found)
    assert answer(question, POINTS).endswith(said)
    silent = found.model_copy(update={"agrees": False, "reason": "3 of 5 fresh seeds have ended"})
    assert "; of 3 fresh seeds (11–13) nothing can be said, 3 of 5 fresh seeds have ended: +0.80" in confirmed(
        silent, POINTS
    )


@pytest.mark.parametrize(
    ("seeds", "text"),
    [((1,), "1"), ((1, 2), "1, 2"), ((1, 2, 3), "1–3"), ((1, 3, 5), "1, 3, 5"), ((3, 2, 1), "3, 2, 1")],
)
def test_seeds_in_words(seeds: tuple[int, ...], text: str) -> None:
    assert seeds_in_words(seeds) == text


@pytest.mark.parametrize(("noun", "text"), [("picture", "a picture"), ("example", "an example")])
def test_a_noun_has_its_article(noun: str, text: str) -> None:
    assert each(noun) == text


def test_the_arm_that_a_question_names_as_its_answer_comes_first() -> None:
    best = summed("best", {"model.width": 2.0}, "better")
    meant = summed("meant", {"model.width": 0.5}, "undecided", difference=-0.001, interval=(-0.003, 0.001))
    assert answer(asked(best, meant), POINTS).startswith("**Better**: with `model.width` = 2 (`best`)")
    named = asked(best, meant, answer="meant")
    assert answer(named, POINTS).startswith("**Undecided**: with `model.width` = 0.5 (`meant`) no effect")
    assert "**Better**: `best` +1.20 points" in answer(named, POINTS)
    assert headline(named, POINTS).startswith("**Undecided**: with `model.width` = 0.5 (`meant`), −0.10 points")
    assert headline(named, POINTS).endswith("; better: `best`.")
    assert answer(asked(best, meant, answer="left out by the study"), POINTS).startswith("**Better**: ")
    alike = summed("alike", {"model.width": 3.0}, "undecided", difference=0.0, interval=(-0.001, 0.001))
    assert headline(asked(best, meant, alike, answer="meant"), POINTS).endswith("; also `alike`; better: `best`.")
