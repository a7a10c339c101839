from __future__ import annotations

import csv
import errno
import io
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from makers import FakeStore, ablation, arm, plan, record
from matplotlib.text import Text
from scipy import stats

from stn_bench.analysis.analyse import Analysis, analyse
from stn_bench.analysis.summarise import summarise
from stn_bench.analysis.summary import ArmSummary, Summary
from stn_bench.figure import Drawing
from stn_bench.report.build import Artifact, build_report, stale_files, write_report
from stn_bench.report.drawings import (
    Curve,
    ForestRow,
    ForestScale,
    Interplay,
    Point,
    draw_costs,
    draw_curves,
    draw_expected_best,
    draw_forest,
    draw_interplay,
)
from stn_bench.report.figures import forests
from stn_bench.report.page import markdown_table
from stn_bench.report.sentences import WORDS
from stn_bench.report.tables import timed_note
from stn_bench.study.plan import Plan
from stn_bench.study.spec import Claim
from stn_bench.subject import find_subject
from stn_bench.subjects.stn.drawings import Example, draw_gallery
from stn_bench.subjects.stn.files import PREDICTIONS
from stn_bench.system.errors import MachineError, ReportError
from stn_bench.system.format import Unit, in_short, p_value, settings_in_words
from stn_bench.tracking.record import RunRecord
from stn_bench.tracking.results import gather

BASE = (0.90, 0.92, 0.94)
WIDE = (0.95, 0.96, 0.97)  # differences 0.05, 0.04, 0.03: mean 0.04, SD 0.01
PLAN = plan(ablation(arm("wide", {"model.width": 2.0}, published={"accuracy": 0.994}), source="Article"))
PNG = b"\x89PNG\r\n\x1a\n"
NO_FOLDER = Path("nowhere")
STN = find_subject("stn")
Change = Callable[[RunRecord], RunRecord]


def records(
    planned: Plan, values: Mapping[str, tuple[float, ...]], change: Change = lambda one: one
) -> list[RunRecord]:
    """Return one record for each value of each arm, by the arm's label."""
    return [
        change(record(spec, f"{one.label}-{spec.seed}", test_accuracy=value))
        for one in planned.arms
        for spec, value in zip(one.verdict_specs({}), values.get(one.label, ()), strict=False)
    ]


def results(
    base: tuple[float, ...] = BASE, wide: tuple[float, ...] = WIDE, change: Change = lambda one: one
) -> Analysis:
    return judged(PLAN, *records(PLAN, {"base": base, "depth/wide": wide}, change))


def judged(planned: Plan, *found: RunRecord) -> Analysis:
    return analyse(gather(planned, FakeStore(*found), NO_FOLDER))


def wide(found: Analysis) -> ArmSummary:
    return summarise(found).ablations[0].arms[1]


def diverged(run_id: str) -> Change:
    def change(one: RunRecord) -> RunRecord:
        reason = "loss is nan at epoch 2"
        return one.model_copy(update={"outcome": "diverged", "reason": reason}) if one.run_id == run_id else one

    return change


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Return a store's way to hand out the pictures that a run kept."""
    folder = tmp_path_factory.mktemp("artifacts")

    def fetch(run_id: str, path: str) -> Path:
        if path == PREDICTIONS:
            np.savez(folder / f"{run_id}.npz", labels=np.arange(50), predicted=np.arange(50))
            return folder / f"{run_id}.npz"
        assert path == "rectified.npz"
        pictures = np.random.default_rng(0).integers(0, 255, (2, 8, 8, 3), dtype=np.uint8)
        np.savez(folder / path, originals=pictures, rectified=pictures, letters=np.array(["A", "B"]))
        return folder / path

    return fetch


@pytest.fixture(scope="module")
def files(artifact: Artifact) -> dict[str, bytes]:
    return build_report(results(), artifact)


# The summary -----------------------------------------------------------------------------------------------------


def test_mean_and_deviation_by_hand() -> None:
    base = summarise(results()).ablations[0].base
    assert (base.name, base.seeds, base.values) == ("base", (1, 2, 3), BASE)
    assert (base.mean, base.sd) == pytest.approx((0.92, 0.02))


def test_difference_by_hand() -> None:
    ours = wide(results())
    assert (ours.difference, ours.pairs, ours.wins) == (pytest.approx(0.04), 3, 3)
    assert ours.interval == pytest.approx((0.04 - 4.302653 * 0.01 / 3**0.5, 0.04 + 4.302653 * 0.01 / 3**0.5), abs=1e-7)


def test_p_agrees_with_scipy() -> None:
    assert wide(results()).p == pytest.approx(stats.ttest_rel(WIDE, BASE).pvalue, rel=1e-9)


def test_verdict_is_better_where_it_is() -> None:
    assert (wide(results()).verdict, wide(results()).reason) == ("better", "")


def test_p_is_adjusted_over_the_arms_of_the_question() -> None:
    planned = plan(ablation(arm("wide", {"model.width": 2.0}), arm("narrow", {"model.width": 0.5})))
    values = {"base": BASE, "depth/wide": WIDE, "depth/narrow": (0.91, 0.92, 0.90)}
    ours, other = summarise(judged(planned, *records(planned, values))).ablations[0].arms[1:]
    assert ours.p is not None
    assert other.p is not None
    assert (ours.holm_p, other.holm_p) == pytest.approx((2 * ours.p, other.p))
    assert (ours.p_adjusted, other.p_adjusted) == pytest.approx((ours.p / (0.8 * 2 / 3 + 0.1), other.p))


def test_costs_are_means_over_the_runs() -> None:
    def cost(one: RunRecord) -> RunRecord:
        return one.model_copy(update={"metrics": {**one.metrics, "cost.seconds": 10.0 * one.seed}})

    ours = wide(results(change=cost))
    assert (ours.seconds, ours.flops, ours.parameters) == (20.0, 2_000_000.0, 1000.0)


def on_another_day(one: RunRecord) -> RunRecord:
    """Return a run as it is where seed 3 was trained on a day when the machine was four times as fast."""
    faster = {name: one.metrics[name] / 4 for name in ("cost.seconds", "cost.cpu_seconds", "cost.step_ms")}
    return one.model_copy(update={"metrics": {**one.metrics, **faster}}) if one.seed == 3 else one


def test_times_are_compared_on_the_seeds_that_all_arms_have() -> None:
    found = summarise(results(wide=WIDE[:2], change=on_another_day)).ablations[0]
    assert (found.timed, found.base.seeds) == ((1, 2), (1, 2, 3))
    assert [(arm.seconds, arm.cpu_seconds, arm.caveats) for arm in found.arms] == [(30.0, 20.0, ())] * 2
    assert timed_note(found) == (
        "The CPU time of a step is that of the least disturbed run; the other costs are means, "
        "over the seeds that every arm has: 1, 2."
    )


def test_arms_on_the_same_seeds_need_no_word_on_their_times() -> None:
    found = summarise(results(change=on_another_day)).ablations[0]
    assert found.timed == (1, 2, 3)
    assert found.base.seconds == pytest.approx((30 + 30 + 7.5) / 3)
    assert timed_note(found).endswith("the other costs are means over the seeds.")


def test_an_arm_without_runs_leaves_the_times_of_the_others() -> None:
    found = summarise(results(wide=())).ablations[0]
    assert (found.timed, found.base.seconds, found.arms[1].seconds) == ((1, 2, 3), 30.0, None)


def test_a_seed_that_diverged_makes_the_verdict_invalid() -> None:
    ours = wide(results(change=diverged("depth/wide-2")))
    assert (ours.verdict, ours.reason) == ("invalid", "1 of 3 seeds of `wide` failed")
    assert ours.failed == {2: "diverged: loss is nan at epoch 2"}


def test_a_base_that_diverged_makes_the_verdict_invalid() -> None:
    assert wide(results(change=diverged("base-1"))).reason == "1 of 3 seeds of `base` failed"


def test_run_ids_stand_beside_the_values_of_their_seeds() -> None:
    ours = wide(results(change=diverged("depth/wide-1")))
    assert (ours.seeds, ours.run_ids) == ((2, 3), ("depth/wide-2", "depth/wide-3"))


def test_unequal_budget_makes_the_verdict_invalid() -> None:
    planned = plan(ablation(arm("fast", {"optimizer.learning_rate": 0.1}, tuned=False)), trials=1)
    base, fast = planned.arms
    (trial,) = base.tuning_specs()
    tuned = [record(spec, f"b{spec.seed}", test_accuracy=0.5) for spec in base.verdict_specs(trial.chosen)]
    fixed = [record(spec, f"f{spec.seed}", test_accuracy=0.9) for spec in fast.verdict_specs({})]
    ours = wide(judged(planned, record(trial, "t", **{"best.validation.accuracy": 0.5}), *tuned, *fixed))
    assert (ours.verdict, ours.reason) == ("invalid", "unequal budget: 0 tuning trials against 1")


def test_before_its_seeds_are_in_an_arm_is_undecided() -> None:
    ours = wide(results(wide=WIDE[:2]))
    assert (ours.verdict, ours.seeds_of_first_look, ours.p_adjusted) == ("undecided", "2 of 3 seeds", None)


def test_an_arm_without_runs_has_dashes() -> None:
    ours = wide(results(wide=()))
    assert (ours.mean, ours.difference, ours.interval, ours.flops) == (None, None, None, None)


def test_libraries_of_two_versions_are_noticed_as_mixed() -> None:
    def age(one: RunRecord) -> RunRecord:
        version = "3.16.0" if one.seed == 2 else "3.15.0"
        return one.model_copy(update={"identity": replace(one.identity, libraries={"keras": version})})

    provenance = summarise(results(change=age)).provenance
    assert (provenance.mixed, provenance.libraries) == (("keras",), {"keras": ("3.15.0", "3.16.0")})


# The page --------------------------------------------------------------------------------------------------------


def test_page_asks_the_question_and_answers_it(files: dict[str, bytes]) -> None:
    page = files["report.md"].decode()
    assert "**Does depth matter?**" in page
    answer = "**Better**: with `model.width` = 2 (`wide`) the model gains 4.00 points [1.52, 6.48], on 3 of 3 seeds."
    headline = "**Better**: with `model.width` = 2 (`wide`), +4.00 points [+1.52, +6.48]."
    assert page.splitlines()[2] == f"- [Depth](#depth) {headline}"
    assert answer in page.splitlines()


def test_page_has_a_row_for_each_arm(files: dict[str, bytes]) -> None:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in files["report.md"].decode().splitlines()]
    assert ["`base`", "–", "3/3", "92.00 ± 2.00", "–", "–", "–", "–"] in rows
    difference = ["+4.00 [+1.52, +6.48]", "0.020", "better"]
    assert ["`wide`", "`model.width` = 2", "3/3", "96.00 ± 1.00", *difference, "accuracy 0.994"] in rows
    assert ["`wide`", "1 k", "2 M", "30 s", "20 s", "0.2 ms", "512 MiB"] in rows


def test_page_shows_every_figure_that_was_drawn(files: dict[str, bytes]) -> None:
    page = files["report.md"].decode()
    drawn = [path for path in files if path.startswith("figures/")]
    assert drawn[0] == "figures/verdicts.png"
    assert len(drawn) == 4
    assert all(f"]({path})" in page for path in drawn)


def test_what_a_scope_says_behind_its_first_paragraph_is_folded(artifact: Artifact) -> None:
    planned = plan(
        ablation(arm("wide", {"model.width": 2.0})), scope="\nThe setting,\nin short.\n\nMore.\n \nAnd more.\n"
    )
    page = build_report(judged(planned, *records(planned, {"base": BASE})), artifact)["report.md"].decode()
    folded = "<details>\n<summary>More on the setting</summary>\n\nMore.\n\nAnd more.\n\n</details>"
    assert f"\nThe setting, in short.\n\n{folded}\n" in page


def test_a_single_claim_is_told_with_its_number(artifact: Artifact) -> None:
    claim = Claim(says="It *reads* 90 %", asked="the base", arm="base", above=0.9, metric="test.accuracy")
    planned = plan(ablation(arm("wide", {"model.width": 2.0}), claims=(claim,)))
    page = build_report(judged(planned, *records(planned, {"base": BASE})), artifact)["report.md"].decode()
    assert "\nOf one claim, *It *reads* 90 %*: **undecided**: test accuracy 92.00 % [87.03, 96.97].\n" in page


def test_page_names_runs_and_pictures(files: dict[str, bytes]) -> None:
    page = files["report.md"].decode()
    assert all(f"`{label}-{seed}`" in page for label in ("base", "depth/wide") for seed in (1, 2, 3))
    assert f"SHA-256 `{'f' * 12}`" in page


def test_page_tells_why_a_seed_failed(artifact: Artifact) -> None:
    page = build_report(results(change=diverged("depth/wide-2")), artifact)["report.md"].decode()
    assert "**Invalid**: with `model.width` = 2 (`wide`) nothing can be said, 1 of 3 seeds of `wide` failed." in page
    assert "`wide` is invalid: 1 of 3 seeds of `wide` failed." in page
    assert "Failed seeds of `wide`: 2 (diverged: loss is nan at epoch 2)." in page


def test_page_says_that_a_study_is_not_finished(artifact: Artifact) -> None:
    page = build_report(results(wide=WIDE[:1]), artifact)["report.md"].decode()
    assert "4 of 6 runs finished" in page
    assert "**This study is not finished.**" in page
    assert "to go on with\n> 2 more runs." in page


def test_page_leaves_no_blank_stretch(files: dict[str, bytes]) -> None:
    assert "\n\n\n" not in files["report.md"].decode()


def test_a_study_without_runs_says_how_to_start() -> None:
    with pytest.raises(ReportError, match="no run is finished yet; start with `stn-bench run small`"):
        build_report(results(base=(), wide=()), lambda run_id, path: NO_FOLDER)


@pytest.mark.parametrize("trials", [0, 2])
def test_a_study_whose_runs_all_crashed_says_so_and_where_to_look(trials: int) -> None:
    planned = plan(ablation(arm("wide", {"model.width": 2.0})), trials=trials)
    specs = [one for each in planned.arms for one in (each.tuning_specs() or each.verdict_specs({}))]
    store = FakeStore(*(record(one, f"r{place}", outcome="crashed") for place, one in enumerate(specs)))
    crashed = analyse(gather(planned, store, NO_FOLDER))
    told = (
        rf"no run is finished, {len(specs)} runs crashed \(the last: .*\); the whole tracebacks are in logs\. Mend it"
    )
    with pytest.raises(ReportError, match=told):
        build_report(crashed, lambda run_id, path: NO_FOLDER, logs=Path("logs"))


def test_the_transformers_gallery_is_drawn(artifact: Artifact) -> None:
    planned = plan(ablation(arm("none", {"model.transformer.kind": "none"}), name="transformer"))
    files = build_report(judged(planned, *records(planned, {"base": BASE, "transformer/none": WIDE})), artifact)
    assert [path for path in files if "gallery" in path] == ["figures/transformer_gallery_base.png"]


@pytest.mark.parametrize(("p", "text"), [(None, "–"), (0.0004, "< 0.001"), (0.001, "0.001"), (0.25, "0.250")])
def test_p_value_in_words(p: float | None, text: str) -> None:
    assert p_value(p) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(12.0, "12"), (1_240_000.0, "1.24 M"), (2e9, "2 G"), (999.0, "999"), (1500.0, "1.5 k"), (3e12, "3 T")],
)
def test_large_numbers_in_short(value: float, text: str) -> None:
    assert in_short(value) == text


def test_settings_in_words_writes_as_toml_does() -> None:
    assert settings_in_words({"a": True, "b": 1e-4, "c": "x"}) == "`a` = true, `b` = 0.0001, `c` = x"


def test_accuracy_is_written_in_points_and_a_loss_as_it_is() -> None:
    assert Unit.of("test.accuracy", is_fraction=True).signed(-0.0125) == "−1.25"
    assert Unit.of("test.loss", is_fraction=False).signed(0.0125) == "+0.0125"


def test_markdown_table_lines_up() -> None:
    table = markdown_table(("arm", "value"), [("`a`", "1"), ("a much longer one", "− 22")])
    lines = table.splitlines()
    assert len({len(line) for line in lines}) == 1
    assert {tuple(i for i, char in enumerate(line) if char == "|") for line in lines} == {(0, 20, 28)}


def test_a_bar_in_a_cell_does_not_end_it() -> None:
    assert r"a\|b" in markdown_table(("x",), [("a|b",)])


# The figures -----------------------------------------------------------------------------------------------------

EPOCHS = np.arange(1, 4)
SCALE = ForestScale("d", 0.5)
TWO = [Point("a", 1e6, (90.0, 91.0), 90.5), Point("b", 2e6, (95.0,), 95.0)]


def effect(word: str, difference: float) -> ForestRow:
    return ForestRow(f"arm_{word}", word, difference, (difference - 0.5, difference + 0.5))


DRAWN: dict[str, Callable[[], bytes]] = {
    "curves": lambda: draw_curves([Curve("a", EPOCHS, EPOCHS * 1.0, EPOCHS - 0.5, EPOCHS + 0.5, 3)], "accuracy, %"),
    "one epoch": lambda: draw_curves([Curve("a", *[np.ones(1)] * 4, 1)], "accuracy, %"),
    "many arms": lambda: draw_curves([Curve(str(i), *[EPOCHS] * 4, 3) for i in range(12)], "accuracy, %"),
    "apart": lambda: draw_curves([Curve(f"${i}$", *[EPOCHS] * 4, 3, i == 0) for i in range(9)], "accuracy, %"),
    "apart at one epoch": lambda: draw_curves([Curve(str(i), *[np.ones(1)] * 4, 1, i == 0) for i in range(8)], "$"),
    "costs": lambda: draw_costs(
        [Point("a", 1e6, (90.0, 91.0), 90.5), Point("b", 2e6, (95.0,), 95.0)], "operations", "%"
    ),
    "forest": lambda: draw_forest([("", [effect("better", 1.0), effect("undecided", 0.1)])], SCALE),
    "six words": lambda: draw_forest([(f"Is it {word}? $x", [effect(word, 1.0)]) for word in WORDS], SCALE),
    "far apart": lambda: draw_forest([("Far", [effect("worse", -80.0), *[effect("equivalent", 0.1)] * 3])], SCALE),
    "cut": lambda: draw_forest(
        [("", [ForestRow("a", "unreplicated", 1.0, (-90.0, 92.0)), ForestRow("b", "unreplicated", None)])],
        SCALE,
    ),
    "interplay": lambda: draw_interplay(
        [Interplay("a.b", "c.d", ("x", "y"), {"1": [(1.0, (0.9, 1.1)), (2.0, (2.0, 2.0))]})] * 2, "accuracy, %"
    ),
    "expected best": lambda: draw_expected_best([("a", (90.0, 91.0)), ("b", (80.0, 92.0))], "expected best, %"),
    "gallery": lambda: draw_gallery([Example("A", np.zeros((8, 20, 3), np.uint8))] * 5),
}


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_figure_is_a_png_of_a_readable_size(draw: Callable[[], bytes]) -> None:
    """It is as wide as a column of a paper, 3.5 inches at 200 dots each; no letter is smaller than 6.5 points."""
    png = draw()
    width, height = struct.unpack(">II", png[16:24])
    assert png.startswith(PNG)
    assert width == 700
    assert 150 <= height <= 1000
    assert isinstance(png, Drawing)
    assert {text.get_fontsize() >= 6.5 for text in png.canvas.findobj(Text)} == {True}


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_figure_is_the_same_bytes_every_time(draw: Callable[[], bytes]) -> None:
    assert draw() == draw()


def forests_of(questions: int, arms: int) -> dict[str, list[str]]:
    """Return the names in each forest plot of a study whose last arms differ most, from the top row down."""
    asked = [
        ablation(*(arm(f"{name}{place}", {"model.width": 2 + place / 4}) for place in range(arms)), name=name)
        for name in "abcdefgh"[:questions]
    ]
    planned = plan(*asked)
    base = {one.label: BASE for one in planned.arms}
    moved = {f"{one.name}/{one.name}{arms - 1}": WIDE for one in asked}
    drawn = forests(summarise(judged(planned, *records(planned, base | moved))))
    labels = {one.name: one.canvas.axes[0].get_yticklabels() for one in drawn}
    return {name: [text.get_text() for text in reversed(texts) if text.get_text()] for name, texts in labels.items()}


def test_a_page_opens_with_the_arms_of_the_answers_where_all_do_not_fit_a_screen() -> None:
    assert forests_of(2, 6) == {"verdicts": [f"{name}{place}" for name in "ab" for place in range(6)]}
    assert forests_of(1, 14).keys() == {"verdicts"}
    many = forests_of(2, 7)
    assert many["answers"] == ["a6", "b6"]
    assert len(many["verdicts"]) == 14


# The files -------------------------------------------------------------------------------------------------------


def test_report_is_the_same_bytes_every_time(artifact: Artifact, files: dict[str, bytes]) -> None:
    assert build_report(results(), artifact) == files


def test_report_holds_the_files_that_are_promised(files: dict[str, bytes]) -> None:
    names = {path for path in files if not path.startswith("figures/")}
    assert names == {"report.md", "report.json", "runs.csv"}  # Markdown unless asked otherwise


def test_json_has_the_fields_that_programs_read(files: dict[str, bytes]) -> None:
    tree: dict[str, Any] = json.loads(files["report.json"])
    (question,) = tree["ablations"]
    assert {"study", "digest", "metric", "margin", "ablations", "provenance"} <= tree.keys()
    assert {"name", "question", "arms"} <= question.keys()
    names = "name set seeds values mean sd difference interval p p_adjusted verdict parameters flops seconds published"
    assert {*names.split(), "run_ids"} <= question["arms"][1].keys()


def test_json_can_be_read_back(files: dict[str, bytes]) -> None:
    assert Summary.model_validate_json(files["report.json"]) == summarise(results())


def test_csv_has_a_line_a_run_and_a_column_a_fact(files: dict[str, bytes]) -> None:
    rows = list(csv.DictReader(io.StringIO(files["runs.csv"].decode())))
    head = ["study", "ablation", "arm", "phase", "seed", "trial", "status", "run_key", "run_id"]
    assert list(rows[0]) == [*head, *STN.paths, *(metric.name for metric in STN.metrics)]
    assert [row["run_id"] for row in rows] == [f"{label}-{s}" for label in ("base", "depth/wide") for s in (1, 2, 3)]


def test_csv_tells_what_a_run_was(files: dict[str, bytes]) -> None:
    row = list(csv.DictReader(io.StringIO(files["runs.csv"].decode())))[-1]
    expected = {"ablation": "depth", "arm": "wide", "phase": "verdict", "seed": "3", "trial": "", "status": "finished"}
    assert {name: row[name] for name in expected} == expected
    assert (row["model.width"], row["test.accuracy"], row["cost.flops"]) == ("2", "0.97", "2000000")


def test_written_report_is_not_stale(tmp_path: Path, files: dict[str, bytes]) -> None:
    write_report(tmp_path / "small", files)
    assert stale_files(tmp_path / "small", files) == []
    assert {path.name for path in (tmp_path / "small").iterdir()} == {
        "report.md",
        "report.json",
        "runs.csv",
        "figures",
    }


def test_stale_files_names_what_changed_is_missing_or_too_many(tmp_path: Path, files: dict[str, bytes]) -> None:
    write_report(tmp_path, files)
    (tmp_path / "report.md").write_bytes(b"edited")
    (tmp_path / "runs.csv").unlink()
    (tmp_path / "figures/old.png").write_bytes(PNG)
    assert stale_files(tmp_path, files) == ["report.md", "runs.csv", "figures/old.png"]


def test_figures_of_an_earlier_report_go(tmp_path: Path, files: dict[str, bytes]) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures/old.png").write_bytes(PNG)
    write_report(tmp_path, files)
    assert stale_files(tmp_path, files) == []


def test_a_file_that_cannot_be_finished_leaves_the_old_one_whole(
    tmp_path: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_report(tmp_path, files)

    def write_half(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_half)
    with pytest.raises(MachineError, match=r"cannot be written \(No space left on device\); make room and try again"):
        write_report(tmp_path, {**files, "report.md": b"new"})
    monkeypatch.undo()
    assert stale_files(tmp_path, files) == []
    assert not list(tmp_path.rglob(".*"))


def test_what_stands_in_the_way_of_a_report_is_not_called_a_full_disk(tmp_path: Path, files: dict[str, bytes]) -> None:
    (tmp_path / "report.md").mkdir()
    with pytest.raises(MachineError, match=r"report\.md: the report cannot be written \(Is a directory\); see what"):
        write_report(tmp_path, files)
