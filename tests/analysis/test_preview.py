"""The preview of a study whose store holds runs; and a short probe, in processes of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny
from makers import make_root
from stores import open_store, train

from stn_bench.analysis.analyse import analyse, nothing_finished
from stn_bench.analysis.cost import ArmCostEstimate, Clock, CostEstimate, Pace
from stn_bench.analysis.preview import Preview, plan_tree, preview, yardsticks
from stn_bench.analysis.summarise import summarise
from stn_bench.analysis.summary import Summary
from stn_bench.study.load import load_plan
from stn_bench.study.plan import Plan, PlannedArm
from stn_bench.study.preregistration import preregister, with_preregistration, write_preregistration
from stn_bench.system.machine import Resources
from stn_bench.system.workspace import Workspace
from stn_bench.tracking.results import Keys, Results, gather

HERE = Clock({"processor": "x", "cores": 2})  # the machine that the makers' runs were trained on


@pytest.fixture
def planned(tmp_path: Path) -> Plan:
    """Return a plan whose runs, all but the last seed's, are in the store of a root."""
    plan = load_plan("small", Workspace.at(make_root(tmp_path)))
    train(plan, open_store(tmp_path / "mlruns"), (1, 2))
    return plan


def found_in(planned: Plan, root: Path) -> Results:
    return gather(planned, open_store(root / "mlruns"), root / "mlruns/datasets")


def summed(planned: Plan, root: Path) -> Summary:
    return summarise(analyse(found_in(planned, root)))


def ahead(results: Results, **rest: object) -> Preview:
    keys = Keys(results.plan.subject, Path("nowhere"))
    return preview(analyse(results), keys, HERE, Resources(2, 1), **rest)  # type: ignore[arg-type]


def test_finished_runs_are_reused_and_tell_the_time(planned: Plan, tmp_path: Path) -> None:
    found = ahead(found_in(planned, tmp_path)).estimate
    assert [(arm.jobs, arm.reused) for arm in found.arms] == [(1, 2), (1, 2)]
    assert {arm.pace.source for arm in found.arms if arm.pace} == {"2 runs"}
    assert found.seconds == 60.0


def test_measured_costs_are_compared(planned: Plan, tmp_path: Path) -> None:
    found = ahead(found_in(planned, tmp_path))
    assert found.caveats(planned.questions[0]) == {"base": (), "narrow": ()}  # the makers' runs all cost the same


def test_a_plan_as_json_has_the_keys_that_programs_read(planned: Plan, tmp_path: Path) -> None:
    found = ahead(found_in(planned, tmp_path))
    tree = plan_tree(found, Keys(planned.subject, Path("nowhere")))
    assert set(tree) == {
        *("study", "digest", "preregistration", "metric", "direction", "margin", "looks", "runs", "cost", "arms"),
        "ablations",
    }
    assert [one["run_key"] for one in tree["arms"][0]["runs"]] == [None] * 3  # no pictures are made here
    assert (tree["cost"]["runs"], tree["cost"]["reused"], tree["arms"][0]["epochs"]) == (2, 4, 400)
    (question,) = tree["ablations"]
    assert question["arms"] == {"narrow": "depth/narrow"}
    assert question["differences"]["narrow"] == {"model.width": (1.0, 0.5)}
    assert question["power"]["examples"] == 1000


def test_a_probe_is_asked_for_arms_without_runs_and_for_how_fast_the_machine_is(planned: Plan, tmp_path: Path) -> None:
    asked: list[tuple[list[str], Resources]] = []

    def probe(arms: list[PlannedArm], resources: Resources) -> dict[str, float]:
        asked.append(([arm.label for arm in arms], resources))
        return {arm.label: 6.0 for arm in arms}

    fresh = ahead(nothing_finished(planned), probe=probe)
    assert asked == [(["base", "depth/narrow"], Resources(2, 1))]
    assert (fresh.estimate.seconds, {arm.pace.source for arm in fresh.estimate.arms if arm.pace}) == (18.0, {"probe"})
    asked.clear()
    known = ahead(found_in(planned, tmp_path), probe=probe).estimate
    assert asked == [(["base", "depth/narrow"], Resources(2, 1))]
    assert known.seconds == 60.0 * 6 / 30  # the makers' runs trained for 30 s
    asked.clear()
    train(planned, open_store(tmp_path / "mlruns"), (3,))
    assert ahead(found_in(planned, tmp_path), probe=probe).estimate.jobs == 0
    assert asked == []


def test_the_quickest_the_middle_and_the_slowest_arm_tell_how_fast_the_machine_is() -> None:
    def one(label: str, seconds: float, jobs: int = 1, is_measured: bool = True) -> ArmCostEstimate:
        return ArmCostEstimate(label, (jobs,), jobs, 1, Pace(seconds, "1 run", is_measured))

    arms = (one("a", 5), one("b", 3), one("c", 9), one("d", 4), one("e", 1, jobs=0), one("f", 20, is_measured=False))
    assert yardsticks(CostEstimate(arms, 2)) == {"b", "a", "c"}
    assert yardsticks(CostEstimate(arms[4:], 2)) == set()


# What the report is told -------------------------------------------------------------------------------------------


def test_the_report_is_told_the_caveats(planned: Plan, tmp_path: Path) -> None:
    results = found_in(planned, tmp_path)
    slower = [
        one.model_copy(update={"metrics": {**one.metrics, "cost.cpu_seconds": 40.0}})
        for one in results.arms[1].runs.values()
    ]
    object.__setattr__(results.arms[1], "runs", {one.seed: one for one in slower})
    base, narrow = summarise(analyse(results)).ablations[0].arms
    assert (base.caveats, narrow.caveats) == ((), ("CPU time a step +100 %: 0.4 ms against 0.2 ms",))


@pytest.mark.parametrize(("date", "before"), [("2025-12-31T23:59:59", True), ("2026-01-01T00:00:01", False)])
def test_the_report_is_told_when_the_plan_was_fixed(planned: Plan, tmp_path: Path, date: str, before: bool) -> None:
    write_preregistration(tmp_path, preregister(planned).model_copy(update={"date": f"{date}+00:00"}))
    results = found_in(with_preregistration(planned, tmp_path), tmp_path)
    fixed = summarise(analyse(results)).preregistration
    assert fixed is not None
    assert (fixed.before_first_run, fixed.digest) == (before, planned.digest)
    assert (fixed.deviations, fixed.undeclared) == ((), ())
    assert ahead(results).analysis.is_preregistered_late != before


def test_the_report_is_told_what_changed_since_declared_or_not(planned: Plan, tmp_path: Path) -> None:
    before, after = (load_plan("small", Workspace.at(tmp_path), (f"train.epochs={epochs}",)) for epochs in (2, 3))
    write_preregistration(tmp_path, preregister(before))
    write_preregistration(tmp_path, preregister(with_preregistration(after, tmp_path), "longer"))
    fixed = summed(with_preregistration(planned, tmp_path), tmp_path).preregistration
    assert fixed is not None
    (deviation,) = fixed.deviations
    assert (deviation.what, deviation.why) == ("train.epochs: was 2, is 3", "longer")
    assert fixed.undeclared == ("train.epochs: was 3, is 400",)


def test_a_plan_that_was_never_preregistered_says_so(planned: Plan, tmp_path: Path) -> None:
    assert summed(planned, tmp_path).preregistration is None


# From the command line ---------------------------------------------------------------------------------------------


def test_a_probe_tells_the_hours_and_leaves_nothing_behind(tmp_path: Path) -> None:
    root = tiny.make_toy_root(tmp_path / "root", tiny.slow_toys(epochs=3, seconds=1.0))
    before = sorted(root.rglob("*"))
    done = tiny.stn_bench("plan", "tiny", "--probe", "--json", "--workers", 2, root=root)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("probing 2 arms with 2 workers of 1 thread\n")
    tree = json.loads(done.stdout)
    assert {arm["cost"]["source"] for arm in tree["arms"]} == {"probe"}
    assert min(arm["cost"]["seconds"] for arm in tree["arms"]) > 0
    assert tree["cost"]["hours"] > 0
    assert sorted(root.rglob("*")) == before
