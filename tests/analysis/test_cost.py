from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from makers import FakeStore, ablation, arm, plan, record

from stn_bench.analysis.analyse import analyse, nothing_finished
from stn_bench.analysis.cost import (
    ArmCostEstimate,
    Clock,
    CostEstimate,
    Costs,
    Pace,
    estimate_cost,
    known_costs,
    makespan,
    measured_costs,
    reusable,
    run_seconds,
    timed_seeds,
    training_flops,
)
from stn_bench.study.plan import Plan, PlannedArm, RunSpec
from stn_bench.subjects.stn.nn.layout import flops, parameters
from stn_bench.tracking.record import RunRecord, settings_digest
from stn_bench.tracking.results import Results, gather

HERE = {"processor": "x", "cores": 2}
WIDE, DROP = arm("wide", {"model.width": 2.0}), arm("drop", {"model.dropout": 0.5})


def key(spec: RunSpec) -> str:
    """Return a run key that the settings, phase and seed decide."""
    return f"{settings_digest(spec.settings)}-{spec.phase}-{spec.seed}"


def trained(
    one: PlannedArm, seeds: tuple[int, ...] = (1, 2, 3), seconds: float = 100.0, **change: Any
) -> list[RunRecord]:
    """Return finished runs of an arm on some seeds, each as long as the others."""
    accuracy = 0.5 if one.name == "base" else 0.6
    return [
        record(spec, f"{one.label}-{spec.seed}", test_accuracy=accuracy + 0.001 * spec.seed).model_copy(
            update={"run_key": key(spec), **lasting(seconds), **change}
        )
        for spec in one.verdict_specs({})
        if spec.seed in seeds
    ]


def lasting(seconds: float) -> dict[str, str]:
    start = "2026-01-01T00:00:00+00:00"
    return {"started": start, "ended": f"2026-01-01T00:{int(seconds) // 60:02d}:{int(seconds) % 60:02d}+00:00"}


def ahead(
    planned: Plan,
    *runs: RunRecord,
    workers: int = 2,
    keys_of: Callable[[RunSpec], tuple[str, ...]] = lambda spec: (key(spec),),
    **clock: Any,
) -> CostEstimate:
    results = gather(planned, FakeStore(*runs), Path("nowhere"))
    return estimated(results, keys_of, workers, **clock)


def estimated(
    results: Results, keys_of: Callable[[RunSpec], tuple[str, ...]], workers: int = 2, **clock: Any
) -> CostEstimate:
    return estimate_cost(results, analyse(reusable(results, keys_of)), Clock(HERE, **clock), workers)


# What is left to train ---------------------------------------------------------------------------------------------


def test_of_a_fresh_study_all_is_left_and_nothing_known() -> None:
    planned = plan(ablation(WIDE), trials=2)
    for found in (ahead(planned), estimated(nothing_finished(planned), lambda spec: (key(spec),))):
        assert (found.jobs, found.sure, found.reused) == (10, 10, 0)
        assert (found.unknown, found.seconds) == (("base", "depth/wide"), None)


def test_what_has_its_run_key_is_reused() -> None:
    planned = plan(ablation(WIDE))
    found = ahead(planned, *trained(planned.arms[0]), *trained(planned.arms[1], (2,)))
    assert [(one.jobs, one.reused) for one in found.arms] == [(0, 3), (2, 1)]


def test_a_run_of_other_code_is_trained_again_and_still_tells_the_time() -> None:
    planned = plan(ablation(WIDE))
    found = ahead(planned, *trained(planned.arms[0], run_key="older")).of("base")
    assert (found.jobs, found.reused, found.pace) == (3, 0, Pace(100.0, "3 runs"))


def test_without_pictures_runs_of_the_same_settings_count_as_reused() -> None:
    planned = plan(ablation(WIDE))
    found = ahead(planned, *trained(planned.arms[0], (1, 3)), keys_of=lambda spec: ()).of("base")
    assert (found.jobs, found.reused) == (1, 2)


def test_seeds_are_left_as_long_as_tuning_is_not_finished() -> None:
    planned = plan(ablation(WIDE), trials=2)
    first = planned.arms[0].tuning_specs()[0]
    done = record(first, "t0", **{"best.validation.accuracy": 0.5}).model_copy(update={"run_key": key(first)})
    assert (ahead(planned, done).of("base").rounds, ahead(planned, done).of("base").reused) == ((1, 3), 1)


LOOKS: dict[str, Any] = {"seeds": (1, 2, 3, 4, 5), "looks": (3, 5)}


def test_looks_tell_what_is_trained_at_least_and_at_most() -> None:
    found = ahead(plan(ablation(WIDE), **LOOKS))
    assert [(one.sure, one.rounds) for one in found.arms] == [(3, (0, 3, 2))] * 2


def test_a_decided_arm_needs_no_more_seeds_and_nor_does_its_base() -> None:
    planned = plan(ablation(WIDE), **LOOKS)
    runs = [run for one in planned.arms for run in trained(one, (1, 2, 3))]  # better by 10 points on each seed
    assert ahead(planned, *runs).jobs == 0


def test_an_arm_whose_base_lacks_a_seed_may_go_on() -> None:
    planned = plan(ablation(WIDE), **LOOKS)
    found = ahead(planned, *trained(planned.arms[0], (1, 2)), *trained(planned.arms[1], (1, 2, 3)))
    assert [(one.sure, one.jobs) for one in found.arms] == [(1, 3), (0, 2)]


def test_an_undecided_arm_goes_on_with_its_base_alone() -> None:
    planned = plan(ablation(WIDE, DROP), **LOOKS)
    base, wide, drop = planned.arms
    noisy = [
        run.model_copy(update={"metrics": {**run.metrics, "test.accuracy": 0.5 + (-1) ** run.seed * 0.03}})
        for run in trained(drop, (1, 2, 3))
    ]
    found = ahead(planned, *trained(base, (1, 2, 3)), *trained(wide, (1, 2, 3)), *noisy)
    assert {one.label: (one.sure, one.jobs) for one in found.arms} == {
        "base": (2, 2),
        "depth/wide": (0, 0),
        "depth/drop": (2, 2),
    }


# How long a job takes ---------------------------------------------------------------------------------------------


def test_a_run_lasts_from_start_to_end() -> None:
    (run,) = trained(plan(ablation(WIDE)).arms[0], (1,), seconds=125)
    assert run_seconds(run) == 125


def test_a_resumed_run_lasts_as_long_as_its_training() -> None:
    (run,) = trained(plan(ablation(WIDE)).arms[0], (1,), seconds=20)
    assert run_seconds(run) == 30.0  # cost.seconds of the maker


def test_the_median_of_an_arms_own_runs_counts() -> None:
    planned = plan(ablation(WIDE))
    base = planned.arms[0]
    runs = [*trained(base, (1,), 90), *trained(base, (2,), 100), *trained(base, (3,), 900)]
    assert ahead(planned, *runs).of("base").pace == Pace(100.0, "3 runs")


@pytest.mark.parametrize("change", [{"machine": {"processor": "y", "cores": 2}}, {"outcome": "diverged"}])
def test_runs_of_other_machines_and_diverged_ones_tell_nothing(change: dict[str, Any]) -> None:
    planned = plan(ablation(WIDE))
    assert ahead(planned, *trained(planned.arms[0], **change)).of("base").pace is None


def test_an_arm_without_runs_is_scaled_from_the_arm_nearest_in_work() -> None:
    planned = plan(ablation(WIDE, arm("wider", {"model.width": 2.5})))
    base, wide, wider = planned.arms
    found = ahead(planned, *trained(base, seconds=60), *trained(wide, seconds=300)).of(wider.label).pace
    assert found is not None
    ratio = training_flops(wider) / training_flops(wide)  # type: ignore[operator]
    assert (found.seconds, found.source) == (pytest.approx(300 * ratio), "depth/wide, by FLOPs")
    assert not found.is_measured


def test_a_probe_counts_before_other_arms_and_after_own_runs() -> None:
    planned = plan(ablation(WIDE))
    found = ahead(planned, *trained(planned.arms[0], (1,)), probed={"depth/wide": 8.0})
    assert [one.pace for one in found.arms] == [Pace(100.0, "1 run, probe"), Pace(8.0, "probe")]
    assert not any(one.is_unmeasured for one in found.arms)


def test_a_probe_of_arms_with_runs_tells_how_fast_the_machine_is_today() -> None:
    planned = plan(ablation(WIDE, DROP, arm("wider", {"model.width": 2.5})))
    base, wide, drop, wider = planned.arms
    runs = [*trained(base, (1, 2), 100), *trained(wide, (1,), 300), *trained(drop, (1,), 50)]
    # The trainings in these runs took 30 s each: they are 0.5, 0.4 and 0.9 times as long today.
    found = ahead(planned, *runs, probed={base.label: 15.0, wide.label: 12.0, drop.label: 27.0})
    assert [found.of(one.label).pace for one in (base, wide, drop)] == [
        Pace(50.0, "2 runs, probe"),
        Pace(150.0, "1 run, probe"),
        Pace(25.0, "1 run, probe"),
    ]
    scaled = found.of(wider.label).pace
    ratio = training_flops(wider) / training_flops(wide)  # type: ignore[operator]
    assert scaled is not None
    assert scaled.seconds == pytest.approx(150 * ratio)
    assert (found.is_probed, ahead(planned, *runs).is_probed) == (True, False)


def test_a_network_of_ones_own_is_not_known_from_others() -> None:
    planned = plan(ablation(arm("mine", {"model.factory": "mine:network"})))
    found = ahead(planned, *trained(planned.arms[0]))
    assert found.unknown == ("depth/mine",)


def test_the_work_of_a_training_is_told_by_the_subject() -> None:
    base, twice, mine = plan(
        ablation(arm("twice", {"train.epochs": 800}), arm("mine", {"model.factory": "mine:network"}))
    ).arms
    assert training_flops(twice) == pytest.approx(2 * training_flops(base))  # type: ignore[operator]
    assert training_flops(mine) is None


# How long all take -------------------------------------------------------------------------------------------------


def test_jobs_are_begun_in_turn_by_the_first_worker_that_is_free() -> None:
    # Two workers: 0-5 and 0-3; then 3-7 on the second, 5-7 on the first.
    assert makespan([5, 3, 4, 2], 2) == 7


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=20), st.integers(1, 6))
def test_the_whole_lies_between_the_best_and_twice_that(jobs: list[float], workers: int) -> None:
    best = max(sum(jobs) / workers, max(jobs))
    assert best * (1 - 1e-9) <= makespan(jobs, workers) <= 2 * best


def test_rounds_wait_for_each_other() -> None:
    slow, fast = Pace(10.0, "x"), Pace(1.0, "x")
    arms = (ArmCostEstimate("base", (1, 1), 2, 0, slow), ArmCostEstimate("a", (1, 1), 2, 0, fast))
    assert CostEstimate(arms, 2).seconds == 20.0
    assert CostEstimate(arms, 1).seconds == 22.0


def test_seeds_run_in_rounds_over_the_arms() -> None:
    arms = (ArmCostEstimate("base", (2,), 2, 0, Pace(4.0, "x")), ArmCostEstimate("a", (2,), 2, 0, Pace(1.0, "x")))
    # base 0-4 beside a 0-1; then base 1-5 beside a 4-5.
    assert CostEstimate(arms, 2).seconds == 5.0
    assert CostEstimate(arms[::-1], 2).seconds == 6.0  # a 0-1, base 0-4; a 1-2, base 2-6


def test_what_is_sure_takes_no_longer_than_all() -> None:
    found = ahead(plan(ablation(WIDE), **LOOKS), probed={"base": 10.0, "depth/wide": 20.0})
    assert (found.sure_seconds, found.seconds) == (makespan([10, 20] * 3, 2), makespan([10, 20] * 3, 2) + 40.0)


def test_no_more_workers_than_jobs() -> None:
    planned = plan(ablation(WIDE))
    assert ahead(planned, workers=16).workers == 6
    everything = [run for one in planned.arms for run in trained(one)]
    assert (ahead(planned, *everything).workers, ahead(planned, *everything).seconds) == (1, 0.0)


def test_an_arms_share_is_its_jobs_shared_out() -> None:
    found = ahead(plan(ablation(WIDE)), probed={"base": 10.0, "depth/wide": 20.0})
    assert [found.share(one) for one in found.arms] == [15.0, 30.0]


# What an arm costs -------------------------------------------------------------------------------------------------


def costing(run: RunRecord, **costs: float) -> RunRecord:
    return run.model_copy(
        update={"metrics": {**run.metrics, **{f"cost.{name}": cost for name, cost in costs.items()}}}
    )


def test_a_step_is_that_of_the_least_disturbed_run_and_other_costs_are_means() -> None:
    planned = plan(ablation(WIDE))
    base, wide = (
        [costing(run, cpu_seconds=10.0 * run.seed, seconds=run.seed) for run in trained(one)] for one in planned.arms
    )
    found = measured_costs(planned.questions[0], gather(planned, FakeStore(*base, *wide), Path("nowhere")))
    ours, steps = found["wide"], 400 * 250  # epochs of 8,000 pictures in batches of 32
    assert (ours.cpu_step_ms, ours.cpu_seconds, ours.seconds) == (pytest.approx(1000 * 10.0 / steps), 20.0, 2.0)


def test_costs_are_taken_of_the_seeds_that_all_arms_have() -> None:
    planned = plan(ablation(WIDE))
    base = [costing(run, cpu_seconds=float(run.seed)) for run in trained(planned.arms[0])]
    wide = [costing(run, cpu_seconds=float(run.seed)) for run in trained(planned.arms[1], (2, 3))]
    results = gather(planned, FakeStore(*base, *wide), Path("nowhere"))
    assert timed_seeds(planned.questions[0], results) == (2, 3)
    found = measured_costs(planned.questions[0], results)
    assert [(one.cpu_step_ms, one.cpu_seconds) for one in found.values()] == [(pytest.approx(0.02), 2.5)] * 2


def test_a_run_that_diverged_tells_no_cost_but_its_size() -> None:
    """Worked by hand: all runs take 100 s, but for one that diverged after one."""
    planned = plan(ablation(WIDE), max_failed=1)
    base, wide = ([costing(run, seconds=100.0, cpu_seconds=100.0) for run in trained(one)] for one in planned.arms)
    early = costing(wide[2], seconds=1.0, cpu_seconds=1.0).model_copy(update={"outcome": "diverged"})
    results = gather(planned, FakeStore(*base, *wide[:2], early), Path("nowhere"))
    assert timed_seeds(planned.questions[0], results) == (1, 2)
    found = measured_costs(planned.questions[0], results)["wide"]
    assert (found.seconds, found.cpu_seconds) == (100, 100)
    lost = [run.model_copy(update={"outcome": "diverged"}) for run in wide]
    results = gather(planned, FakeStore(*base, *lost), Path("nowhere"))
    assert timed_seeds(planned.questions[0], results) == (1, 2, 3)
    found = measured_costs(planned.questions[0], results)["wide"]
    assert (found.seconds, found.cpu_seconds, found.parameters, found.flops) == (None, None, 1000, 2e6)


def test_a_run_that_diverged_tells_no_step_since_it_did_not_take_all() -> None:
    planned = plan(ablation(WIDE))
    runs = trained(planned.arms[0])
    ended = costing(runs[0], cpu_seconds=1.0).model_copy(update={"outcome": "diverged"})
    found = measured_costs(planned.questions[0], gather(planned, FakeStore(ended, *runs[1:]), Path("nowhere")))
    assert (found["base"].cpu_step_ms, found["base"].cpu_seconds) == (pytest.approx(0.2), 20.0)


def test_costs_are_measured_where_there_are_runs_and_on_paper_elsewhere() -> None:
    planned = plan(ablation(WIDE, arm("mine", {"model.factory": "mine:network"})))
    question, wide = planned.questions[0], planned.arms[1]
    results = gather(planned, FakeStore(*trained(planned.arms[0])), Path("nowhere"))
    found = known_costs(question, measured_costs(question, results))
    assert found["base"] == Costs(1000.0, 2_000_000.0, 30.0, 20.0, pytest.approx(0.2), 512.0)
    assert found["wide"] == Costs(parameters(wide.config), flops(wide.config))
    assert found["mine"] == Costs()  # a network of one's own costs what its runs say
