"""The examples: each folder in `examples/` is tested by being there, and one of them with all that an arm can have."""

from __future__ import annotations

import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import call
from makers import FakeStore
from processes import assert_each_job_once, complete_trials, running, statuses, wait_for_checkpoint, workers
from tiny import stn_bench

from stn_bench.analysis.analyse import analyse
from stn_bench.analysis.digits import unit_of
from stn_bench.analysis.summary import AblationSummary, ArmSummary, Summary
from stn_bench.report.build import build_report
from stn_bench.report.sentences import confirmed, ranked, sentence
from stn_bench.study.catalogue import bundled_root
from stn_bench.study.load import load_plan
from stn_bench.subject import find_subject
from stn_bench.system.workspace import Workspace
from stn_bench.testing import SubjectContract
from stn_bench.tracking.archive import read_archive
from stn_bench.tracking.results import gather

EXAMPLES = bundled_root() / "examples"
README = (EXAMPLES / "README.md").read_text(encoding="utf-8")
FOLDERS = sorted(path.parent for path in EXAMPLES.glob("*/studies"))
STUDIES = [path for folder in FOLDERS for path in sorted((folder / "studies").glob("*.toml"))]
SEEDS = 3
"""Seeds of a study that is trained anew."""
ALIKE = 3
"""Margins by which a run may differ from the committed one: other processors and libraries round otherwise."""

of_each_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
of_each_study = pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.stem)


def subject_of(study: Path) -> str:
    return str(tomllib.loads(study.read_text(encoding="utf-8"))["subject"])


@pytest.fixture(autouse=True)
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the examples' modules be found, as the command line finds them under its root."""
    monkeypatch.setattr(sys, "path", [*sys.path, *map(str, FOLDERS)])


def test_there_are_four_kinds() -> None:
    assert {folder.name for folder in FOLDERS} >= {"forest", "tabular", "series", "pictures"}
    for folder in FOLDERS:
        assert (folder / f"{folder.name}.py").exists()
        assert f"--root examples/{folder.name}" in README


# The contract --------------------------------------------------------------------------------------------------------


def contract_of(address: str) -> type[SubjectContract]:
    """Return the suite for a subject; its module is imported only where a test of it runs."""
    name = f"Test{address.partition(':')[0].capitalize()}"
    found = property(lambda suite: find_subject(address))
    return type(name, (SubjectContract,), {"subject": found, "pytestmark": [pytest.mark.slow]})


CONTRACTS = [contract_of(address) for address in sorted({subject_of(study) for study in STUDIES})]
globals().update({suite.__name__: suite for suite in CONTRACTS})  # as if each were written here


# As they are committed -----------------------------------------------------------------------------------------------


@of_each_folder
def test_its_files_are_sound_and_its_studies_can_be_planned(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("check", "--root", folder) == 0
    assert "studies are sound" in capsys.readouterr().out
    for study in sorted((folder / "studies").glob("*.toml")):
        assert call("plan", study.stem, "--root", folder) == 0
        told = capsys.readouterr()
        assert f"! runs code of the root's own, `{subject_of(study)}`: the subject" in told.out
        assert told.err == ""


@of_each_study
def test_the_committed_page_is_what_the_committed_records_say(study: Path, tmp_path: Path) -> None:
    """Whatever has become of the code since."""
    folder = report_of(study)
    archive = read_archive(folder / "runs.zip")
    keys = {record.run_id: record.run_key for record in archive.records}

    def artifact(run_id: str, path: str) -> Path:
        file = tmp_path / keys[run_id] / path
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(archive.files[keys[run_id]][path])
        return file

    plan = load_plan(study.stem, Workspace.at(study.parent.parent))
    results = gather(plan, FakeStore(*archive.records), tmp_path / "no-data")
    files = build_report(analyse(results), lambda run_id, path: known(artifact, run_id, path))
    for name in ("report.md", "runs.csv"):
        assert files[name].decode() == (folder / name).read_text(encoding="utf-8"), name
    assert {name for name in files if name.startswith("figures/")} == {
        f"figures/{path.name}" for path in (folder / "figures").iterdir()
    }


def known(artifact: Any, run_id: str, path: str) -> Path:
    """Return a file of an archive; one that it has not is an OSError, as in a store."""
    try:
        return artifact(run_id, path)  # type: ignore[no-any-return]
    except KeyError:
        raise FileNotFoundError(path) from None


@of_each_study
def test_the_readme_shows_what_the_committed_report_says(study: Path) -> None:
    assert f"\n{chr(10).join(answers(committed(study)))}\n" in README


@of_each_study
def test_nothing_in_a_page_is_of_another_subject(study: Path) -> None:
    """Letters and transformers are the article's; pictures are of those who have some."""
    page = (report_of(study) / "report.md").read_text(encoding="utf-8")
    words = r"letter|captcha|transformer" + (
        "" if find_subject(subject_of(study)).example == "picture" else "|picture"
    )
    assert not re.search(words, page, re.IGNORECASE)
    assert not re.search(
        r"\b1 (definitions|cores|threads|settings|seeds|epochs|(more|fresh) \w+s|tuning trials)\b", page
    )


def report_of(study: Path) -> Path:
    return study.parent.parent / "reports" / study.stem


def committed(study: Path) -> Summary:
    return summary_in(report_of(study))


def summary_in(folder: Path) -> Summary:
    return Summary.model_validate_json((folder / "report.json").read_text(encoding="utf-8"))


def answers(summary: Summary) -> Iterator[str]:
    """Yield what `run` prints at its end."""
    for number, ablation in enumerate(summary.ablations):
        yield from [""] * bool(number)
        yield ablation.question
        for arm in ranked(ablation):
            yield f"  {arm.verdict}: {sentence(arm, ablation, unit_of(summary, ablation))}".replace("`", "")
        if ablation.confirmation:
            yield f"  {confirmed(ablation.confirmation, unit_of(summary, ablation))}".replace("`", "")


def copied(folder: Path, where: Path) -> Path:
    """Return a root with an example's files, and nothing that was trained."""
    left = shutil.ignore_patterns("mlruns", "reports", "signs", "__*")
    return Path(shutil.copytree(folder, where / folder.name, ignore=left))


# Trained anew --------------------------------------------------------------------------------------------------------


def first_seeds(study: Path) -> list[int]:
    """Return as many of a study's own seeds as a test trains: those that its committed report has."""
    return list(tomllib.loads(study.read_text())["seeds"][:SEEDS])


def derive(folder: Path, where: Path, study: str, more: str = "") -> Path:
    """Return a root with an example, and a study `tiny` of it: its questions, on fewer seeds."""
    root = copied(folder, where)
    seeds = first_seeds(folder / "studies" / f"{study}.toml")
    tiny = f'extends = "{study}"\ntitle = "Tiny"\nseeds = {seeds}\nlooks = []\n'
    (root / "studies/tiny.toml").write_text(tiny + more)
    return root


def told(*arguments: object, root: Path) -> str:
    done = stn_bench(*arguments, root=root)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1200)  # minutes of training, beside other tests
@of_each_study
def test_trained_anew_it_comes_to_nearly_the_same(study: Path, tmp_path: Path) -> None:
    root = derive(study.parent.parent, tmp_path, study.stem)
    told("run", "tiny", root=root)
    before, now = committed(study), summary_in(root / "reports/tiny")
    seeds = tuple(first_seeds(study))
    for old, new in zip(before.ablations, now.ablations, strict=True):
        for was, arm in zip(old.arms, new.arms, strict=True):
            assert (arm.name, arm.seeds) == (was.name, seeds)
            if arm.chosen == was.chosen:
                values = dict(zip(was.seeds, was.values, strict=True))
                known = [values[seed] for seed in arm.seeds]
                assert arm.values == pytest.approx(known, abs=ALIKE * before.margin), arm.name
            if abs(was.difference or 0) > 2 * ALIKE * before.margin:
                assert (arm.difference or 0) * (was.difference or 0) > 0, arm.name
            assert arm.verdict not in ("invalid", "unreplicated")


# All that an arm can have --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def forest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a root with the study of the forest, trained with its fresh seeds."""
    root = derive(EXAMPLES / "forest", tmp_path_factory.mktemp("forest"), "forest", "confirm = [101, 102]\n")
    told("run", "tiny", "--confirm", root=root)
    return root


def arms_of(root: Path) -> dict[str, tuple[AblationSummary, ArmSummary]]:
    ablations = summary_in(root / "reports/tiny").ablations
    return {f"{one.name}/{arm.name}": (one, arm) for one in ablations for arm in one.arms}


@pytest.mark.slow
def test_its_page_has_tuning_factors_claims_and_confirmation(forest: Path) -> None:
    summary = summary_in(forest / "reports/tiny")
    randomness = summary.ablations[0]
    assert [arm.name for arm in randomness.arms] == ["base", "best_all", "random_sqrt", "random_all"]
    assert all(set(arm.chosen) == {"leaf"} for arm in randomness.arms)
    assert len(randomness.expected_best["base"]) == 3
    assert {frozenset(effect.levels) for effect in randomness.effects} == {
        frozenset({"thresholds"}),
        frozenset({"features"}),
        frozenset({"thresholds", "features"}),
    }
    assert len(summary.claims) == 3
    assert all(claim.value is not None for claim in summary.claims)
    for ablation in summary.ablations:
        assert ablation.confirmation is not None
        assert ablation.confirmation.seeds == (101, 102)
    page = (forest / "reports/tiny/report.md").read_text(encoding="utf-8")
    assert "<summary>Main effects and interactions of the factors</summary>" in page
    assert "**Confirmation**" in page


@pytest.mark.slow
def test_run_again_it_trains_nothing_and_writes_the_same_page(forest: Path) -> None:
    page, known = (forest / "reports/tiny/report.md").read_bytes(), len(complete_trials(forest))
    said = told("run", "tiny", "--confirm", root=forest)
    assert "finished, " not in said
    assert len(complete_trials(forest)) == known
    assert (forest / "reports/tiny/report.md").read_bytes() == page
    assert told("report", "tiny", "--check", root=forest)


@pytest.mark.slow
def test_a_changed_constant_is_named_and_trains_again_and_changed_back_does_not(forest: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(forest, tmp_path / "changed"))
    run_id = arms_of(root)["randomness/best_all"][1].run_ids[0]
    assert "VALIDATION" not in told("why", run_id, root=root)
    code = (root / "forest.py").read_text(encoding="utf-8")
    (root / "forest.py").write_text(code.replace("TRAIN, VALIDATION = 600, 600", "TRAIN, VALIDATION = 600, 500"))
    done = stn_bench("why", run_id, root=root)
    assert "code forest:VALIDATION: was " in done.stdout, done.stdout + done.stderr
    assert " 0 reused" in told("plan", "tiny", root=root)
    (root / "forest.py").write_text(code + "\nUNUSED = 1\n")
    assert "nothing to train" in told("plan", "tiny", root=root)


@pytest.mark.slow
def test_its_runs_travel_and_give_the_same_page_elsewhere(forest: Path, tmp_path: Path) -> None:
    other = derive(EXAMPLES / "forest", tmp_path, "forest", "confirm = [101, 102]\n")
    told("export", "tiny", tmp_path / "runs.zip", root=forest)
    told("import", tmp_path / "runs.zip", root=other)
    told("report", "tiny", root=other)
    for name in ("report.md", "report.json", "runs.csv"):
        assert (other / "reports/tiny" / name).read_bytes() == (forest / "reports/tiny" / name).read_bytes(), name


@pytest.mark.slow
def test_decided_arms_stop_at_a_look(tmp_path: Path) -> None:
    root = copied(EXAMPLES / "forest", tmp_path)
    (root / "studies/tiny.toml").write_text(
        'title = "Tiny"\nsubject = "forest:train"\nablations = ["forest_size"]\narms = { forest_size = ["ten"] }\n'
        'metric = "test.accuracy"\nmargin = 0.01\nseeds = [1, 2, 3, 4, 5, 6]\nlooks = [5, 6]\n'
    )
    said = told("run", "tiny", root=root)
    assert "stopped at look 1 of 2: forest_size/ten" in said
    arm = arms_of(root)["forest_size/ten"][1]
    assert (arm.stopped, arm.verdict, len(arm.seeds)) == (True, "worse", 5)


def test_an_arm_that_costs_more_is_flagged() -> None:
    page = (EXAMPLES / "tabular/reports/tabular/report.md").read_text(encoding="utf-8")
    deep = next(
        arm
        for one in committed(EXAMPLES / "tabular/studies/tabular.toml").ablations
        for arm in one.arms
        if arm.name == "deep"
    )
    assert deep.costlier.keys() == {"flops", "parameters"}
    assert "Caveats of `deep`: parameters +" in page
    assert "† costs over 5 % more than the base: `deep`." in page


@pytest.mark.slow
def test_a_killed_worker_loses_nothing_and_changes_nothing(tmp_path: Path) -> None:
    """The two inputs' training goes on at its epoch, to the same bits as one that nobody disturbed."""
    more = 'ablations = ["hurried_labels"]\nconfirm = []\n[base]\nepochs = 20\n'
    undisturbed = derive(EXAMPLES / "series", tmp_path / "undisturbed", "series", more)
    told("run", "tiny", root=undisturbed)
    root = derive(EXAMPLES / "series", tmp_path / "killed", "series", more)
    with running(root, "--workers", "2") as process:
        wait_for_checkpoint(root, process)
        workers(process)[0].kill()
        output, _ = process.communicate(timeout=280)
    assert process.returncode == 0, output
    assert "Traceback" not in output
    assert "KILLED" in statuses(root)
    assert_each_job_once(root, 2 * SEEDS)
    one, other = ({name: arm.values for name, (_, arm) in arms_of(place).items()} for place in (root, undisturbed))
    assert one == other
