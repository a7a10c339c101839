"""The runner's rounds: jobs end in memory, with scores made by hand; they wait in Optuna's store where others have to
find them."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from makers import ablation, arm, study, wear_out

from stn_bench.analysis.analyse import Analysis
from stn_bench.runner.job import Job
from stn_bench.runner.leases import Finished, Lease
from stn_bench.runner.queue.rows import QueuedJob
from stn_bench.runner.runner import Runner, _Round
from stn_bench.runner.stores import Stores, open_queue
from stn_bench.runner.worker import Event
from stn_bench.study.plan import Phase, Plan, RunSpec, make_plan
from stn_bench.study.spec import Ablation, Range, Tuning
from stn_bench.subject import FormerKey, Metric, Subject, find_subject
from stn_bench.system.errors import CatalogueError, CodeChangedError, Interrupted
from stn_bench.system.machine import Resources
from stn_bench.system.patience import Patience
from stn_bench.system.workspace import Workspace
from stn_bench.tracking.record import RunRecord, settings_digest
from stn_bench.tracking.results import Keys
from stn_bench.tracking.store import ArmPage, FinishedRun

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")  # as the queue does

TOY = find_subject("toy")
LOOKS: dict[str, Any] = {"seeds": (1, 2, 3, 4, 5), "looks": (3, 5)}
JOBS = {"base": 5, "depth/wide": 3, "depth/slim": 5}  # `wide` is decided at the first look
Seed = tuple[str, int]
"""An arm's label, and one of its seeds."""


def small(*ablations: Ablation, subject: Subject = TOY, **rest: Any) -> Plan:
    asked = ablations or (ablation(arm("wide", {"depth": 7}), arm("slim", {"depth": 3})),)
    names = tuple(dict.fromkeys(one.name for one in asked))
    return make_plan(study(subject="toy", ablations=names, **(LOOKS | rest)), asked, subject)


def score(spec: RunSpec) -> float:
    """Return 0.8 or so for the base, much less for `wide`, and now more, now less for `slim`."""
    below = {"base": 0.0, "wide": 0.3, "slim": 0.05 * (-1) ** spec.seed}
    return 0.8 + 0.001 * spec.seed - below[spec.arm]


@dataclass
class Told:
    """A watcher that remembers."""

    lines: list[str] = field(default_factory=list)
    rounds: list[tuple[Phase, list[Seed]]] = field(default_factory=list)

    def preparing(self, data: str, done: int, count: int) -> None: ...

    def event(self, event: Event) -> None: ...

    def phase(self, phase: Phase, jobs: Mapping[str, Job], reused: int) -> None:
        self.rounds.append((phase, [(job.spec.label, job.spec.seed) for job in jobs.values()]))

    def say(self, line: str) -> None:
        self.lines.append(line)


class Memory:
    """A tracking store in memory, as the runner and its workers use it."""

    def __init__(self) -> None:
        self.patience = Patience(0)
        self.kept: list[RunRecord] = []  # the latest first
        self.arms: dict[str, tuple[dict[str, float], dict[str, str]]] = {}

    def finished(self) -> list[FinishedRun]:
        return [listed(one) for one in self.kept if one.outcome != "crashed"]

    def crashed(self, study: str) -> list[FinishedRun]:
        return [listed(one) for one in self.kept if one.outcome == "crashed"]

    def records(self, run_ids: Iterable[str]) -> list[RunRecord]:
        by_id = {one.run_id: one for one in self.kept}
        return [by_id[run_id] for run_id in run_ids]

    def kill_open(self, experiment: str, **tags: str) -> None: ...

    def open_study(self, name: str, note: str = "") -> str:
        return name

    def open_arm(self, experiment: str, name: str, tags: Mapping[str, str], note: str) -> str:
        return name

    def describe(self, run_id: str, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
        self.arms[run_id] = (dict(metrics), dict(tags))

    def arm_pages(self, experiment: str) -> dict[tuple[str, str], ArmPage]:
        return {}

    def end(self, job: Job, outcome: Any) -> RunRecord:
        """Keep a run as a job does that has ended."""
        made = job.record(f"run-{len(self.kept)}", "", outcome, "")
        tuned = {"last.validation.score": 0.5 - abs(job.spec.settings["rate"] - 0.1), "last.train.loss": 0.1}
        made = made.model_copy(update={"metrics": {"test.score": score(job.spec), **tuned}})
        self.kept.insert(0, made)
        return made


def listed(one: RunRecord) -> FinishedRun:
    digest = settings_digest(one.settings, TOY.settings)
    return FinishedRun(one.run_id, one.run_key, digest, one.phase, one.seed, one.identity.dataset)


class Waiting:
    """A job queue in memory, for one runner alone."""

    is_shared = False

    def __init__(self) -> None:
        self.patience = Patience(0)
        self.waiting: dict[str, list[str]] = {}
        self.directions: dict[str, str] = {}
        self.done: dict[str, dict[str, Finished]] = {}

    def planning(self) -> AbstractContextManager[None]:
        return nullcontext()

    def enqueue(self, name: str, direction: str, jobs: list[QueuedJob], done: Any, tried: Any = ()) -> None:
        self.waiting[name] = [one.run_key for one in jobs if one.run_key not in done and one.run_key not in tried]
        self.directions[name], self.done[name] = direction, done

    def work(self, names: list[str], objective: Callable[[Lease], Finished], should_stop: Callable[[], bool]) -> None:
        while any(self.waiting[name] for name in names) and not should_stop():
            name = next(name for name in names if self.waiting[name])
            with suppress(RuntimeError):
                objective(Lease(self.waiting[name].pop(0), lambda: False, nullcontext))


@dataclass(frozen=True)
class Rehearsal(Runner):
    """A runner whose jobs are leased and finished as ever, but not trained.

    Args:
        crashing: jobs that raise an error.
        stop_after: number of jobs after which Ctrl-C is pressed.
        before: called before each round's work.
        trained: every job that was leased, in order.
    """

    crashing: tuple[Seed, ...] = ()
    stop_after: int = 1000
    before: Callable[[], None] = lambda: None
    trained: list[Seed] = field(default_factory=list)

    def _train(self, phase: Phase, found: _Round) -> None:
        self.before()
        memory: Any = self.stores.tracking

        def objective(lease: Lease) -> Finished:
            job = found.known[lease.run_key]
            self.trained.append((job.spec.label, job.spec.seed))
            if self.trained[-1] in self.crashing:
                memory.end(job, "crashed")
                raise RuntimeError("as planned")
            return Finished(score(job.spec), memory.end(job, "finished").run_id, "finished")

        self.stores.queue.work(found.names, objective, lambda: len(self.trained) >= self.stop_after)
        if len(self.trained) >= self.stop_after:
            raise Interrupted("stopped")


@dataclass(frozen=True)
class Root:
    """A folder, the tracking store that every runner of a test shares, and how each opens its queue."""

    path: Path
    store: Memory
    open_queue: Callable[[], Any]


@pytest.fixture
def quick_root(tmp_path: Path) -> Root:
    """Return a root whose jobs wait in memory."""
    return Root(tmp_path, Memory(), Waiting)


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """Return a root whose jobs wait in Optuna's store, where others find them."""
    return Root(tmp_path, Memory(), lambda: open_queue(Workspace.at(tmp_path)))


def rehearse(root: Root, planned: Plan, **rest: Any) -> Rehearsal:
    stores = Stores(root.store, root.open_queue())  # type: ignore[arg-type]
    return Rehearsal(planned, stores, Workspace.at(root.path), Resources(1, 1), Told(), **rest)


def go(root: Root, planned: Plan, *, confirm: bool = False, **rest: Any) -> tuple[list[Seed], Analysis]:
    """Run a study and return the jobs that it trained, and what came of it."""
    one = rehearse(root, planned, **rest)
    found = one.run(confirm=confirm)
    return one.trained, found


def jobs(seeds: Mapping[str, Iterable[int]]) -> list[Seed]:
    return sorted((label, seed) for label, some in seeds.items() for seed in some)


def complete(root: Root) -> list[Seed]:
    """Return every complete trial by the name of its Optuna study and its seed."""
    storage = Workspace.at(root.path).queue
    studies = [optuna.load_study(study_name=name, storage=storage) for name in optuna.get_all_study_names(storage)]
    return sorted(
        (study.study_name.rpartition(" / ")[0], trial.params["seed"])
        for study in studies
        for trial in study.trials
        if trial.state == optuna.trial.TrialState.COMPLETE
    )


# Code that changes -----------------------------------------------------------------------------------------------


def test_a_later_look_does_not_mix_in_code_that_has_changed(
    root: Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "rounds_mine.py"
    file.write_text("def train(settings, seed, run):\n    return {}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    subject = dataclasses.replace(TOY, train=importlib.import_module("rounds_mine").train)
    one = rehearse(root, small(subject=subject), before=lambda: file.write_text("def train(): ..."))
    with pytest.raises(CodeChangedError, match=r"`rounds_mine\.py` changed after the study was planned; run again"):
        one.run()
    assert sorted(one.trained) == jobs(dict.fromkeys(JOBS, (1, 2, 3)))


# Rounds ----------------------------------------------------------------------------------------------------------


def test_open_arms_go_on_with_their_base_and_decided_ones_stop(quick_root: Root) -> None:
    one = rehearse(quick_root, small())
    found = one.run()
    assert sorted(one.trained[:9]) == jobs(dict.fromkeys(JOBS, (1, 2, 3)))
    assert sorted(one.trained[9:]) == jobs({"base": (4, 5), "depth/slim": (4, 5)})
    assert {arm.arm.label: len(arm.runs) for arm in found.results.arms} == JOBS
    assert found.planned_runs == found.results.finished == 13


def test_each_round_is_told_with_its_look(quick_root: Root) -> None:
    one = rehearse(quick_root, small())
    one.run()
    told = one.watcher
    assert isinstance(told, Told)
    assert [(phase, len(some)) for phase, some in told.rounds] == [("verdict", 9), ("verdict", 4)]
    assert told.lines == ["look 2 of 2: base, depth/slim"]


def test_every_job_has_one_complete_trial_in_the_arms_own_study(root: Root) -> None:
    go(root, small())
    assert complete(root) == sorted(
        (f"small / {label} / verdict", seed) for label, n in JOBS.items() for seed in range(1, n + 1)
    )


def test_without_looks_there_is_one_round_with_all_seeds(quick_root: Root) -> None:
    one = rehearse(quick_root, small(looks=()))
    one.run()
    assert isinstance(one.watcher, Told)
    assert [(phase, len(some)) for phase, some in one.watcher.rounds] == [("verdict", 15)]


def test_looks_added_to_a_finished_study_train_the_added_seeds_of_the_open_arms_alone(quick_root: Root) -> None:
    go(quick_root, small(seeds=(1, 2, 3), looks=()))
    trained, found = go(quick_root, small())
    assert sorted(trained) == jobs({"base": (4, 5), "depth/slim": (4, 5)})
    assert {arm.arm.label: len(arm.runs) for arm in found.results.arms} == JOBS


def test_a_finished_study_trains_nothing(quick_root: Root) -> None:
    go(quick_root, small())
    assert go(quick_root, small())[0] == []


@pytest.mark.parametrize("stop_after", [9, 11])
def test_a_stopped_study_goes_on_in_the_same_round(root: Root, stop_after: int) -> None:
    one = rehearse(root, small(), stop_after=stop_after)
    with pytest.raises(Interrupted):
        one.run()
    rest, _ = go(root, small())
    assert sorted(one.trained + rest) == jobs({label: range(1, count + 1) for label, count in JOBS.items()})


def test_what_waits_from_before_the_study_had_looks_is_not_trained(root: Root) -> None:
    one = rehearse(root, small(looks=()), stop_after=1)
    with pytest.raises(Interrupted):
        one.run()
    trained, _ = go(root, small())
    assert ("depth/wide", 4) not in trained
    assert len(trained) == 12


def test_a_crashed_seed_is_tried_again_by_the_next_run_alone(quick_root: Root) -> None:
    trained, found = go(quick_root, small(), crashing=(("depth/wide", 2),))
    assert trained.count(("depth/wide", 2)) == 1
    assert len(trained) == 13  # the others went on
    assert found.missing_runs == 1
    assert go(quick_root, small())[0] == [("depth/wide", 2)]


def test_an_arm_goes_on_once_its_crashed_seed_is_there(quick_root: Root) -> None:
    trained, _ = go(quick_root, small(), crashing=(("depth/slim", 2),))
    assert sorted(trained) == jobs(dict.fromkeys(JOBS, (1, 2, 3)))
    assert sorted(go(quick_root, small())[0]) == jobs({"base": (4, 5), "depth/slim": (2, 4, 5)})


def test_a_crashed_base_holds_up_its_question(quick_root: Root) -> None:
    trained, _ = go(quick_root, small(), crashing=(("base", 1),))
    assert len(trained) == 9


def test_what_nobody_tries_again_and_nobody_told_of_is_recorded_once(root: Root) -> None:
    """Machines died, parents and all: who is left records the crash, unless it was recorded, or the run had ended."""
    with pytest.raises(Interrupted):  # its data are made
        rehearse(root, small(), stop_after=1).run()
    one = rehearse(root, small())
    queue, told = one.stores.queue, list[str]()
    with queue.planning():
        found = one._prepare("verdict", "small", frozenset())
    registrar: Any = SimpleNamespace(lost_elsewhere=told.append)
    one._record_lost(registrar, found)
    assert told == []
    key = next(iter(found.jobs))
    wear_out(queue, found.names, key)
    one._record_lost(registrar, found)
    assert told == [key]
    root.store.end(found.jobs[key], "crashed")
    one._record_lost(registrar, found)
    assert told == [key]


def test_whoever_is_stopped_waits_for_no_store(root: Root) -> None:
    stores = rehearse(root, small()).stores
    patiences = (stores.tracking.patience, stores.queue.patience)
    with stores.waiting_until(lambda: True):
        assert all(one.should_stop() for one in patiences)
    assert not any(one.should_stop() for one in patiences)


# Two at once -----------------------------------------------------------------------------------------------------


def test_two_runs_at_once_train_each_job_once(root: Root) -> None:
    other = rehearse(root, small(), stop_after=5)

    def interfere() -> None:
        if not other.trained:
            with pytest.raises(Interrupted):
                other.run()

    trained, found = go(root, small(), before=interfere)
    assert sorted(trained + other.trained) == jobs({label: range(1, count + 1) for label, count in JOBS.items()})
    assert found.planned_runs == found.results.finished


def test_a_worker_takes_over_the_round_that_another_run_has_begun(root: Root) -> None:
    """The other run is a round ahead and stops there: its waiting jobs are known to this one's workers."""
    other = rehearse(root, small(), stop_after=10)

    def interfere() -> None:
        if not other.trained:
            with pytest.raises(Interrupted):
                other.run()

    one = rehearse(root, small(), before=interfere)
    one.run()
    assert isinstance(one.watcher, Told)
    assert len(one.watcher.rounds) == 1
    assert len(other.trained) == 10
    assert sorted(one.trained + other.trained) == jobs({label: range(1, n + 1) for label, n in JOBS.items()})


# The arms' own runs ----------------------------------------------------------------------------------------------


def test_the_verdict_is_on_the_arms_run(quick_root: Root) -> None:
    go(quick_root, small())
    metrics, tags = quick_root.store.arms["depth/wide"]
    assert (tags["verdict"], tags["verdict.reason"]) == ("worse", "")
    assert metrics["difference"] == pytest.approx(-0.3)
    assert metrics["difference.low"] <= metrics["difference"] <= metrics["difference.high"]
    assert metrics["p"] <= metrics["p_adjusted"] < 0.05


def test_the_base_has_no_verdict(quick_root: Root) -> None:
    go(quick_root, small())
    metrics, tags = quick_root.store.arms["base"]
    assert (tags, metrics["seeds"], "difference" in metrics) == ({"phase": "arm"}, 5, False)


def test_an_invalid_verdict_says_why(quick_root: Root) -> None:
    go(quick_root, small(), crashing=(("depth/slim", 2),))
    tags = quick_root.store.arms["depth/slim"][1]
    assert (tags["verdict"], tags["verdict.reason"]) == ("invalid", "1 of 3 seeds of `slim` failed")


def test_an_arm_that_two_questions_show_has_the_verdict_of_its_own(quick_root: Root) -> None:
    again = ablation(arm("again", {"depth": 7}), name="other", base={"rate": 0.01})
    go(quick_root, small(ablation(arm("wide", {"depth": 7})), again))
    assert sorted(quick_root.store.arms) == ["base", "depth/wide"]
    assert quick_root.store.arms["depth/wide"][1]["verdict"] == "worse"


# Confirmation ----------------------------------------------------------------------------------------------------


def test_the_best_arm_and_its_base_are_trained_on_fresh_seeds(root: Root) -> None:
    planned = small(confirm=(101, 102))
    go(root, planned)
    trained, found = go(root, planned, confirm=True)
    assert sorted(trained) == jobs({"base": (101, 102), "depth/slim": (101, 102)})
    assert {arm.arm.label: sorted(arm.confirmed) for arm in found.results.arms} == {
        "base": [101, 102],
        "depth/wide": [],
        "depth/slim": [101, 102],
    }
    assert [name for name, seed in complete(root) if seed > 100] == ["small / base / confirm"] * 2 + [
        "small / depth/slim / confirm"
    ] * 2


def test_a_confirmed_study_trains_nothing_again(quick_root: Root) -> None:
    planned = small(confirm=(101, 102))
    go(quick_root, planned, confirm=True)
    assert go(quick_root, planned, confirm=True)[0] == []


def test_fresh_seeds_are_left_alone_unless_asked_for(quick_root: Root) -> None:
    trained, _ = go(quick_root, small(confirm=(101, 102)))
    assert max(seed for _, seed in trained) == 5


# Keys of older versions ------------------------------------------------------------------------------------------


def with_former_key(prefix: str = "older.") -> Subject:
    """Return the toy as if an older version had named its code otherwise."""
    home = TOY.train.__module__
    return dataclasses.replace(TOY, former=(FormerKey(((home, "train"),), (home,), prefix, ("numpy",)),))


def rename(store: Memory, keys: Mapping[str, str]) -> None:
    """Give the kept runs the run keys that an older version would have given them."""
    store.kept = [one.model_copy(update={"run_key": keys[one.run_key]}) for one in store.kept]


def test_a_run_that_is_finished_under_a_former_key_is_done(root: Root) -> None:
    """Its job is complete in Optuna's store, with its own key of today; its looks count as those of any run."""
    planned = small(subject=with_former_key())
    one = rehearse(root, planned)
    one.run()
    today = Keys(planned.subject, one.workspace.datasets)
    specs = [spec for arm in planned.arms for spec in arm.verdict_specs({})]
    keys = {today(spec)[0]: today.former(spec)[0] for spec in specs}
    assert not set(keys) & set(keys.values())
    rename(root.store, keys)
    trained, found = go(root, planned)
    assert trained == []
    assert found.planned_runs == found.results.finished == 13
    assert len(complete(root)) == 13


def test_a_run_that_merely_stands_in_is_trained_again(quick_root: Root) -> None:
    one = rehearse(quick_root, small())
    one.run()
    rename(quick_root.store, {run.run_key: run.run_key[::-1] for run in quick_root.store.kept})
    again, _ = go(quick_root, small())
    assert sorted(again) == sorted(one.trained)


def test_a_run_that_stands_in_is_kept_where_it_is_accepted(quick_root: Root) -> None:
    go(quick_root, small())
    rename(quick_root.store, {run.run_key: run.run_key[::-1] for run in quick_root.store.kept})
    trained, found = go(quick_root, small(), accept_stale=True)
    assert trained == []
    assert found.missing_runs == 0


# Tuning ----------------------------------------------------------------------------------------------------------

SEARCH = Tuning(trials=3, seed=1000, search={"rate": Range(low=1e-3, high=1.0, log=True)})


@pytest.mark.parametrize(
    ("tune_on", "direction"), [("last.validation.score", "maximize"), ("last.train.loss", "minimize")]
)
def test_tuning_looks_at_what_the_subject_names_in_its_direction(
    quick_root: Root, tune_on: str, direction: str
) -> None:
    planned = small(subject=dataclasses.replace(TOY, tune_on=(tune_on,)), tuning=SEARCH)
    one = rehearse(quick_root, planned)
    one.run()
    queue: Any = one.stores.queue
    assert {name.split(" / ")[-2]: told for name, told in queue.directions.items()} == {
        "tune": direction,
        "verdict": "maximize",
    }
    again = rehearse(quick_root, planned)
    again.run()
    told: Any = again.stores.queue
    values = {one.value for name, done in told.done.items() if " / tune / " in name for one in done.values()}
    assert values == {run.metrics[tune_on] for run in quick_root.store.kept if run.phase == "tune"}


def test_the_verdict_trains_with_what_tuning_found_best(quick_root: Root) -> None:
    go(quick_root, small(tuning=SEARCH))
    tried = {run.settings["rate"] for run in quick_root.store.kept if run.phase == "tune"}
    used = {run.settings["rate"] for run in quick_root.store.kept if run.phase == "verdict"}
    assert len(tried) == 3
    assert used == {min(tried, key=lambda rate: abs(rate - 0.1))}


def test_a_subject_that_names_nothing_to_tune_on_cannot_be_tuned() -> None:
    with pytest.raises(CatalogueError, match=r"small\.toml: \[tuning\]: expected `metric`, since subject `toy` names"):
        small(subject=dataclasses.replace(TOY, tune_on=()), tuning=SEARCH)


def test_a_study_says_what_such_a_subject_is_tuned_on() -> None:
    by_loss = SEARCH.model_copy(update={"metric": "last.train.loss"})
    planned = small(subject=dataclasses.replace(TOY, tune_on=()), tuning=by_loss)
    assert [metric.name for metric in planned.tuning] == ["last.train.loss"]
    assert planned.digest != small(tuning=SEARCH).digest
    verdicts_own = SEARCH.model_copy(update={"metric": "test.score"})
    with pytest.raises(CatalogueError, match=r"expected no metric of the verdict, got `test\.score`"):
        small(tuning=verdicts_own)
    first = dataclasses.replace(TOY, metrics=(Metric("score", "a score"), *TOY.metrics))
    with pytest.raises(CatalogueError, match="expected no metric of the verdict, got `score`"):
        small(subject=first, tuning=SEARCH.model_copy(update={"metric": "score"}))  # the study names no metric itself
