"""The outlook of a study whose store holds runs; and a short probe, in processes of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny
from makers import make_root
from stores import open_store, train

from stn_bench.analysis.cost import ArmForecast, Forecast, Pace
from stn_bench.analysis.preview import Outlook, _yardsticks, look_ahead
from stn_bench.analysis.summary import summarise
from stn_bench.study.catalogue import load
from stn_bench.study.plan import Plan, PlannedArm, make_plan
from stn_bench.study.preregistration import freeze, with_frozen, write_frozen
from stn_bench.system.machine import Crew, describe_machine
from stn_bench.system.workspace import Workspace


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Return a plan whose runs, all but the last seed's, are in the store of a root."""
    plan = make_plan(*load(make_root(tmp_path), "small"))
    train(plan, open_store(tmp_path / "mlruns"), (1, 2))
    here = {"processor": "x", "cores": 2}  # the machine that the makers' runs were trained on
    monkeypatch.setattr(
        "stn_bench.analysis.preview.describe_machine", lambda threads: {**describe_machine(threads), **here}
    )
    return plan


def ahead(planned: Plan, root: Path, **rest: object) -> Outlook:
    return look_ahead(planned, Workspace.at(root), Crew(2, 1), **rest)  # type: ignore[arg-type]


def test_finished_runs_are_reused_and_tell_the_time(planned: Plan, tmp_path: Path) -> None:
    found = ahead(planned, tmp_path).forecast
    assert [(arm.cells, arm.reused) for arm in found.arms] == [(1, 2), (1, 2)]
    assert {arm.pace.source for arm in found.arms if arm.pace} == {"2 runs"}
    assert found.seconds == 60.0


def test_measured_costs_are_compared(planned: Plan, tmp_path: Path) -> None:
    outlook = ahead(planned, tmp_path)
    assert outlook.flags(planned.ablations[0]) == {"base": (), "narrow": ()}  # the makers' runs all cost the same


def test_a_fresh_root_has_no_store_and_gets_none(tmp_path: Path) -> None:
    plan = make_plan(*load(make_root(tmp_path), "small"))
    assert ahead(plan, tmp_path).results.finished == 0
    assert not (tmp_path / "mlruns").exists()


def test_a_probe_is_asked_for_arms_without_runs_and_for_how_fast_the_machine_is(planned: Plan, tmp_path: Path) -> None:
    asked: list[tuple[list[str], Crew]] = []

    def probe(arms: list[PlannedArm], crew: Crew) -> dict[str, float]:
        asked.append(([arm.label for arm in arms], crew))
        return {arm.label: 6.0 for arm in arms}

    fresh = ahead(planned, tmp_path / "elsewhere", probe=probe)
    assert asked == [(["base", "depth/narrow"], Crew(2, 1))]
    assert (fresh.forecast.seconds, {arm.pace.source for arm in fresh.forecast.arms if arm.pace}) == (18.0, {"probe"})
    asked.clear()
    known = ahead(planned, tmp_path, probe=probe).forecast
    assert asked == [(["base", "depth/narrow"], Crew(2, 1))]
    assert known.seconds == 60.0 * 6 / 30  # the makers' runs trained for 30 s
    asked.clear()
    train(planned, open_store(tmp_path / "mlruns"), (3,))
    assert ahead(planned, tmp_path, probe=probe).forecast.cells == 0
    assert asked == []


def test_the_quickest_the_middle_and_the_slowest_arm_tell_how_fast_the_machine_is() -> None:
    def one(label: str, seconds: float, cells: int = 1, is_measured: bool = True) -> ArmForecast:
        return ArmForecast(label, (cells,), cells, 1, Pace(seconds, "1 run", is_measured))

    arms = (one("a", 5), one("b", 3), one("c", 9), one("d", 4), one("e", 1, cells=0), one("f", 20, is_measured=False))
    assert _yardsticks(Forecast(arms, 2)) == {"b", "a", "c"}
    assert _yardsticks(Forecast(arms[4:], 2)) == set()


# What the report is told -------------------------------------------------------------------------------------------


def test_the_report_is_told_the_flags(planned: Plan, tmp_path: Path) -> None:
    results = ahead(planned, tmp_path).results
    slower = [
        one.model_copy(update={"metrics": {**one.metrics, "cost.cpu_seconds": 40.0}})
        for one in results.arms[1].runs.values()
    ]
    object.__setattr__(results.arms[1], "runs", {one.seed: one for one in slower})
    base, narrow = summarise(results).ablations[0].arms
    assert (base.flags, narrow.flags) == ((), ("processor time a step +100 %: 0.4 ms against 0.2 ms",))


@pytest.mark.parametrize(("date", "before"), [("2025-12-31T23:59:59", True), ("2026-01-01T00:00:01", False)])
def test_the_report_is_told_when_the_plan_was_frozen(planned: Plan, tmp_path: Path, date: str, before: bool) -> None:
    frozen = freeze(planned).model_copy(update={"date": f"{date}+00:00"})
    write_frozen(tmp_path, frozen)
    summary = summarise(ahead(with_frozen(planned, tmp_path), tmp_path).results)
    assert summary.frozen is not None
    assert (summary.frozen.before_first_run, summary.frozen.digest) == (before, planned.digest)
    assert (summary.frozen.deviations, summary.frozen.undeclared) == ((), ())


def test_the_report_is_told_what_changed_since_declared_or_not(planned: Plan, tmp_path: Path) -> None:
    before, after = (make_plan(*load(tmp_path, "small"), {"train.epochs": epochs}) for epochs in (2, 3))
    write_frozen(tmp_path, freeze(before))
    write_frozen(tmp_path, freeze(with_frozen(after, tmp_path), "longer"))
    summary = summarise(ahead(with_frozen(planned, tmp_path), tmp_path).results)
    assert summary.frozen is not None
    (deviation,) = summary.frozen.deviations
    assert (deviation.what, deviation.why) == ("train.epochs: was 2, is 3", "longer")
    assert summary.frozen.undeclared == ("train.epochs: was 3, is 400",)


def test_a_plan_that_was_never_frozen_says_so(planned: Plan, tmp_path: Path) -> None:
    assert summarise(ahead(planned, tmp_path).results).frozen is None


# From the command line ---------------------------------------------------------------------------------------------


def test_a_probe_tells_the_hours_and_leaves_nothing_behind(tmp_path: Path) -> None:
    root = tiny.make_root(tmp_path / "root", tiny.PLAIN)
    before = sorted(root.rglob("*"))
    done = tiny.stn_bench("plan", "tiny", "--probe", "--json", "--workers", 2, root=root)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("probing 2 arms with 2 workers of 1 thread\n")
    tree = json.loads(done.stdout)
    assert {arm["cost"]["source"] for arm in tree["arms"]} == {"probe"}
    assert min(arm["cost"]["seconds"] for arm in tree["arms"]) > 0
    assert tree["cost"]["hours"] > 0
    assert sorted(root.rglob("*")) == before
