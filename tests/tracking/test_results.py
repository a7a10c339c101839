from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from pathlib import Path

import pytest
from makers import STN, FakeStore, ablation, arm, plan, record

from stn_bench.study.plan import Plan, RunSpec
from stn_bench.tracking import results
from stn_bench.tracking.identity import former_identities, identify
from stn_bench.tracking.record import RunRecord, run_tags, settings_digest
from stn_bench.tracking.results import choose, gather

FINGERPRINT = "f" * 64


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every data set for made."""
    monkeypatch.setattr(results, "fingerprint_of", lambda settings, subject, datasets: FINGERPRINT)


def small_plan(trials: int = 0) -> Plan:
    return plan(ablation(arm("wide", {"model.width": 2.0})), trials=trials)


def keyed(spec: RunSpec, run_id: str, outcome: str = "finished") -> RunRecord:
    """Return a record under the run key that the spec has today."""
    key = identify(STN, spec.settings, spec.seed, FINGERPRINT).run_key
    return record(spec, run_id, outcome=outcome, test_accuracy=0.5).model_copy(update={"run_key": key})


def trials_of(planned: Plan, accuracies: list[float], **more: float) -> list[RunRecord]:
    return [
        record(spec, f"t{spec.trial}", **{"best.validation.accuracy": accuracy}, **more)
        for spec, accuracy in zip(planned.arms[0].tuning_specs(), accuracies, strict=True)
    ]


def test_nothing_finished_means_nothing_gathered(tmp_path: Path) -> None:
    gathered = gather(small_plan(), FakeStore(), tmp_path)
    assert (gathered.finished, gathered.records) == (0, ())


def test_without_pictures_runs_are_known_by_their_settings(tmp_path: Path) -> None:
    planned = small_plan()
    spec = planned.arms[1].verdict_specs({})[1]
    gathered = gather(planned, FakeStore(record(spec, "r1", test_accuracy=0.5)), tmp_path)
    assert gathered.of(planned.arms[1]).values("test.accuracy") == {2: 0.5}
    assert gathered.of(planned.arms[0]).runs == {}


def test_a_crashed_trial_is_told_until_it_has_finished(tmp_path: Path) -> None:
    planned = small_plan(trials=2)
    first, second = planned.arms[0].tuning_specs()
    crash, done = record(first, "c", outcome="crashed"), record(second, "d", outcome="crashed")
    again = record(second, "t", **{"best.validation.accuracy": 0.5})
    gathered = gather(planned, FakeStore(again, crash, done), tmp_path)
    assert gathered.arms[0].trials == (again,)
    assert gathered.crashed == gathered.arms[0].crashed_trials == (crash,)


@pytest.mark.usefixtures("made")
def test_the_run_key_wins_over_later_runs_of_the_same_settings(tmp_path: Path) -> None:
    planned = small_plan()
    spec = planned.arms[0].verdict_specs({})[0]
    store = FakeStore(record(spec, "later"), keyed(spec, "same-key"))
    assert gather(planned, store, tmp_path).arms[0].runs[1].run_id == "same-key"


@pytest.mark.usefixtures("made")
def test_the_latest_run_of_the_same_settings_stands_in(tmp_path: Path) -> None:
    planned = small_plan()
    spec = planned.arms[0].verdict_specs({})[0]
    store = FakeStore(record(spec, "later"), record(spec, "earlier"))
    assert gather(planned, store, tmp_path).arms[0].runs[1].run_id == "later"


def test_a_run_on_other_pictures_does_not_stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "fingerprint_of", lambda settings, subject, datasets: "e" * 64)
    planned = small_plan()
    store = FakeStore(record(planned.arms[0].verdict_specs({})[0], "on-other-pictures"))
    assert gather(planned, store, tmp_path).finished == 0


def test_a_later_run_on_other_pictures_hides_none_that_stands_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "fingerprint_of", lambda settings, subject, datasets: "e" * 64)
    planned = small_plan()
    found = record(planned.arms[0].verdict_specs({})[0], "of-these-pictures")
    ours = found.model_copy(update={"identity": dataclasses.replace(found.identity, dataset="e" * 64)})
    later = found.model_copy(update={"run_id": "later, on other pictures"})
    for store in (FakeStore(later, ours), FakeStore(ours, later)):
        assert gather(planned, store, tmp_path).arms[0].runs[1].run_id == "of-these-pictures"


@pytest.mark.parametrize("other", [{"phase": "tune"}, {"seed": 9}])
def test_a_run_of_another_phase_or_seed_does_not_stand_in(tmp_path: Path, other: dict[str, object]) -> None:
    planned = small_plan()
    found = record(planned.arms[0].verdict_specs({})[0], "r").model_copy(update=other)
    assert gather(planned, FakeStore(found), tmp_path).finished == 0


@pytest.mark.usefixtures("made")
def test_a_tuning_trial_of_another_study_is_no_run_of_a_verdict_though_its_run_key_is_the_same(tmp_path: Path) -> None:
    """Of a trial no test metric is recorded."""
    planned, spec = small_plan(), small_plan().arms[0].verdict_specs({})[0]
    trial = keyed(spec, "t").model_copy(update={"phase": "tune", "trial": 0, "study": "another", "metrics": {}})
    assert gather(planned, FakeStore(trial), tmp_path).finished == 0
    both = gather(planned, FakeStore(trial, keyed(spec, "r")), tmp_path)
    assert [found.run_id for found in both.records] == ["r"]
    assert gather(planned, FakeStore(keyed(spec, "r"), trial), tmp_path).records == both.records


@pytest.mark.usefixtures("made")
def test_a_run_of_a_verdict_is_no_tuning_trial_though_its_run_key_is_the_same(tmp_path: Path) -> None:
    """Its record says of nothing that a search chose it, and tuning would choose nothing."""
    planned = small_plan(trials=2)
    first, second = planned.arms[0].tuning_specs()
    other = keyed(first, "r").model_copy(update={"phase": "verdict", "trial": None, "study": "another", "chosen": {}})
    trial = keyed(second, "t").model_copy(update={"metrics": {"best.validation.accuracy": 0.5}})
    gathered = gather(planned, FakeStore(other, trial), tmp_path)
    assert [found.run_id for found in gathered.records] == ["t"]


def test_a_seed_has_ended_whether_its_run_finished_diverged_or_crashed(tmp_path: Path) -> None:
    planned = plan(ablation(arm("wide", {"model.width": 2.0})), seeds=(1, 2, 3, 4))
    outcomes = ("finished", "diverged", "crashed")
    runs = [record(s, o, outcome=o) for s, o in zip(planned.arms[0].verdict_specs({}), outcomes, strict=False)]
    assert [set(one.ended) for one in gather(planned, FakeStore(*runs), tmp_path).arms] == [{1, 2, 3}, set()]


def confirmed_plan() -> Plan:
    return plan(ablation(arm("wide", {"model.width": 2.0})), confirm=(101, 102))


def test_runs_on_fresh_seeds_never_enter_the_verdict(tmp_path: Path) -> None:
    planned = confirmed_plan()
    base = planned.arms[0]
    runs = [record(s, f"r{s.seed}", test_accuracy=0.5) for s in (*base.verdict_specs({}), *base.confirm_specs({}))]
    ours = gather(planned, FakeStore(*runs), tmp_path).arms[0]
    assert (list(ours.values("test.accuracy")), list(ours.confirmed_values("test.accuracy"))) == (
        [1, 2, 3],
        [101, 102],
    )


def test_finished_runs_on_fresh_seeds_are_among_the_records_but_not_counted(tmp_path: Path) -> None:
    planned = confirmed_plan()
    fresh = [record(spec, f"r{spec.seed}") for spec in planned.arms[0].confirm_specs({})]
    gathered = gather(planned, FakeStore(*fresh), tmp_path)
    assert (gathered.finished, gathered.records) == (0, tuple(fresh))


def test_a_crash_on_a_fresh_seed_is_no_failure_of_the_arm(tmp_path: Path) -> None:
    planned = confirmed_plan()
    crash = record(planned.arms[0].confirm_specs({})[0], "r", outcome="crashed")
    gathered = gather(planned, FakeStore(crash), tmp_path)
    assert (gathered.arms[0].crashed, gathered.crashed) == ({}, (crash,))


@pytest.mark.usefixtures("made")
def test_what_other_code_trained_is_left_out_where_rounds_are_decided(tmp_path: Path) -> None:
    planned = small_plan()
    one, two, three = planned.arms[0].verdict_specs({})
    ours, older = keyed(one, "today"), record(two, "stands-in", test_accuracy=0.5)
    crash = record(three, "crashed-then", outcome="crashed")
    gathered = gather(planned, FakeStore(ours, older, crash), tmp_path)
    assert (list(gathered.arms[0].runs), list(gathered.arms[0].crashed)) == ([1, 2], [3])
    exact = gathered.trained_as({ours.run_key}).of(planned.arms[0])
    assert (exact.runs, exact.crashed) == ({1: ours}, {})


def test_tuning_that_is_not_finished_has_chosen_nothing(tmp_path: Path) -> None:
    planned = small_plan(trials=2)
    gathered = gather(planned, FakeStore(*trials_of(planned, [0.5, 0.6])[:1]), tmp_path)
    assert (gathered.arms[0].chosen, len(gathered.arms[0].trials)) == (None, 1)


def test_tuning_that_is_finished_chooses_for_the_verdict(tmp_path: Path) -> None:
    planned = small_plan(trials=2)
    trials = trials_of(planned, [0.5, 0.6])
    verdict = record(planned.arms[0].verdict_specs(trials[1].chosen)[0], "v")
    gathered = gather(planned, FakeStore(*trials, verdict), tmp_path)
    assert gathered.arms[0].chosen == trials[1].chosen
    assert gathered.arms[0].runs == {1: verdict}


def test_without_tuning_the_settings_are_taken_as_they_are(tmp_path: Path) -> None:
    assert gather(small_plan(), FakeStore(), tmp_path).arms[0].chosen == {}


def test_choose_takes_the_best_by_validation_accuracy() -> None:
    trials = trials_of(small_plan(trials=3), [0.5, 0.7, 0.6])
    assert choose(trials, STN.tuning) == trials[1].chosen


def test_choose_breaks_a_tie_by_the_lower_loss() -> None:
    first, second = trials_of(small_plan(trials=2), [0.5, 0.5])
    better = second.model_copy(update={"metrics": {**second.metrics, "best.validation.loss": 0.1}})
    worse = first.model_copy(update={"metrics": {**first.metrics, "best.validation.loss": 0.2}})
    assert choose([worse, better], STN.tuning) == second.chosen


def test_choose_breaks_a_tie_of_both_by_the_earlier_trial() -> None:
    trials = trials_of(small_plan(trials=3), [0.5, 0.5, 0.5])
    assert choose(reversed(trials), STN.tuning) == trials[0].chosen


@pytest.mark.parametrize("accuracy", [math.nan, math.inf])
def test_choose_never_takes_a_trial_whose_accuracy_is_no_number(accuracy: float) -> None:
    trials = trials_of(small_plan(trials=2), [accuracy, 0.01])
    assert choose(trials, STN.tuning) == trials[1].chosen


def test_choose_never_takes_a_diverged_trial_before_a_finished_one() -> None:
    first, second = trials_of(small_plan(trials=2), [0.9, 0.1])
    assert choose([first.model_copy(update={"outcome": "diverged"}), second], STN.tuning) == second.chosen


def test_a_diverged_run_is_a_result_without_a_value(tmp_path: Path) -> None:
    planned = small_plan()
    found = record(planned.arms[0].verdict_specs({})[0], "r", outcome="diverged", test_accuracy=0.1)
    ours = gather(planned, FakeStore(found), tmp_path).arms[0]
    assert (list(ours.runs), ours.values("test.accuracy")) == ([1], {})


@pytest.mark.usefixtures("made")
def test_a_crashed_seed_is_told_apart(tmp_path: Path) -> None:
    planned = small_plan()
    specs = planned.arms[0].verdict_specs({})
    store = FakeStore(keyed(specs[0], "r1"), keyed(specs[1], "r2", outcome="crashed"))
    ours = gather(planned, store, tmp_path).arms[0]
    assert (list(ours.runs), list(ours.crashed)) == ([1], [2])


def test_without_pictures_a_crashed_seed_is_known_by_its_settings(tmp_path: Path) -> None:
    planned = small_plan()
    found = record(planned.arms[0].verdict_specs({})[0], "r", outcome="crashed")
    assert gather(planned, FakeStore(found), tmp_path).arms[0].crashed == {1: found}


@pytest.mark.usefixtures("made")
def test_a_seed_that_finished_after_a_crash_is_no_longer_crashed(tmp_path: Path) -> None:
    planned = small_plan()
    spec = planned.arms[0].verdict_specs({})[0]
    ours = gather(planned, FakeStore(keyed(spec, "r2"), keyed(spec, "r1", outcome="crashed")), tmp_path).arms[0]
    assert (list(ours.runs), ours.crashed) == ([1], {})


def test_a_record_from_before_a_setting_existed_is_found_by_todays_settings() -> None:
    (spec, *_) = plan(ablation(arm("wide", {"model.width": 2.0}))).arms[1].verdict_specs({})
    today = record(spec, "run")
    older = today.model_copy(
        update={"settings": {path: value for path, value in today.settings.items() if "correction" not in path}}
    )
    assert len(older.settings) < len(today.settings)
    tags = run_tags(older, older.identity, STN.settings)
    assert tags["settings"] == settings_digest(spec.settings, STN.settings)


@pytest.mark.parametrize("subject", ["stn", "toy"])
@pytest.mark.usefixtures("made")
def test_seeds_share_the_work_of_their_keys_and_not_the_keys(subject: str, tmp_path: Path) -> None:
    """Against the definition: SHA-256 over canonical JSON of all parts, taken anew for each run."""
    planned = plan(ablation(arm("other", {OTHER[subject]: 1 if subject == "toy" else 0.5})), subject=subject)
    known = results.Keys(planned.subject, tmp_path)
    for one in planned.arms:
        for spec in one.verdict_specs({}):
            identity = identify(planned.subject, spec.settings, spec.seed, FINGERPRINT)
            tree = json.dumps(dataclasses.asdict(identity), sort_keys=True, separators=(",", ":"))
            assert known.identity(spec) == identity
            assert known(spec)[0] == identity.run_key == hashlib.sha256(tree.encode()).hexdigest()
            older = [former.run_key for former in former_identities(planned.subject, identity)]
            assert list(known(spec)[1:]) == list(known.former(spec)) == older
    assert len({known(spec) for one in planned.arms for spec in one.verdict_specs({})}) == 6


OTHER = {"stn": "model.width", "toy": "depth"}


def test_a_run_of_another_subject_stands_in_for_none(tmp_path: Path) -> None:
    planned = plan(ablation(arm("deep", {"depth": 4})), subject="toy")
    spec = planned.arms[0].verdict_specs({})[0]
    other = record(spec, "other", test_score=0.9).model_copy(update={"subject": "mine:train"})
    own = record(spec, "own", test_score=0.5).model_copy(update={"subject": "toy"})
    assert gather(planned, FakeStore(other), tmp_path).finished == 0
    found = gather(planned, FakeStore(other, own), tmp_path)
    assert found.arms[0].runs == {spec.seed: own}, "though the other is the later one"
    lost = other.model_copy(update={"outcome": "crashed"})
    assert gather(planned, FakeStore(lost), tmp_path).crashed == ()
