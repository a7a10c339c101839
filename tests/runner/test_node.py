"""What a worker on another machine does before it leases a job: no Ray is needed to see that."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import make_toy_root

from stn_bench.runner.data import prepare_data
from stn_bench.runner.job import Job
from stn_bench.runner.node import at_home_here, code_of, settle_in
from stn_bench.runner.stores import open_stores
from stn_bench.runner.worker import Assignment
from stn_bench.study.load import load_plan
from stn_bench.system.errors import MachineError
from stn_bench.system.machine import Resources
from stn_bench.system.workspace import Workspace
from stn_bench.tracking.results import Keys

SERVER = "http://127.0.0.1:5000"


@pytest.fixture
def assignment(tmp_path: Path) -> Assignment:
    """Return what a worker is to do that has never been at this root."""
    workspace = Workspace(make_toy_root(tmp_path / "root"), SERVER)
    plan = load_plan("tiny", workspace)
    settings = [arm.config for arm in plan.arms]
    prepare_data(plan.subject, settings, workspace, Resources(1, 1), lambda name, done, count: None)
    keys = Keys(plan.subject, workspace.datasets)
    jobs = {}
    for arm in plan.arms:
        for spec in arm.verdict_specs({}):
            identity = keys.identity(spec)
            assert identity
            job = Job.of(plan.subject, spec, identity, workspace, experiment="1", parent="2", threads=1)
            jobs[identity.run_key] = job
    places = functools.partial(open_stores, workspace)
    return Assignment(workspace, places, 1, ("tiny",), jobs, "score", "maximize", is_remote=True)


def elsewhere(assignment: Assignment) -> Assignment:
    return replace(assignment, workspace=replace(assignment.workspace, root=Path("/nowhere/at/all")))


def test_a_machine_that_sees_the_root_works_in_it(assignment: Assignment) -> None:
    assert at_home_here(assignment, {}) is assignment


def test_another_machine_works_in_a_folder_of_its_own_with_the_code(
    assignment: Assignment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    moved = at_home_here(elsewhere(assignment), {"own/model.py": b"x = 1\n"})
    root = moved.workspace.root
    assert root.is_relative_to(tmp_path)
    assert (root / "own/model.py").read_text() == "x = 1\n"
    assert {job.checkpoints.parent for job in moved.jobs.values()} == {root / "mlruns/checkpoints"}
    assert {job.data for job in moved.jobs.values()} == {root / "mlruns/datasets"}
    assert at_home_here(elsewhere(assignment), {}).workspace.root == root  # the same again: checkpoints are found


def test_where_artifacts_would_lie_under_the_root_it_must_be_there(assignment: Assignment) -> None:
    lonely = elsewhere(assignment)
    lonely = replace(lonely, workspace=replace(lonely.workspace, tracking_uri="postgresql+psycopg://x/y"))
    with pytest.raises(MachineError, match="has no folder /nowhere/at/all"):
        at_home_here(lonely, {})


def test_the_same_code_and_libraries_are_let_in(assignment: Assignment) -> None:
    settle_in(assignment)


@pytest.mark.parametrize(
    ("part", "told"),
    [("libraries", "libraries numpy: was '0.0', is '"), ("code", "code toy"), ("dataset", "dataset: was 'other'")],
)
def test_what_differs_is_named(assignment: Assignment, part: str, told: str) -> None:
    changed = {}
    for key, job in assignment.jobs.items():
        was = getattr(job.identity, part)
        other = "other" if part == "dataset" else {**was, next(iter(was)): "0.0"}
        changed[key] = replace(job, identity=replace(job.identity, **{part: other}))
    with pytest.raises(MachineError, match="would train another run than") as refused:
        settle_in(replace(assignment, jobs=changed))
    assert told.split(":")[0].split()[0] in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_shipped_subject_needs_no_code_of_the_root(assignment: Assignment) -> None:
    assert code_of(assignment.jobs.values(), assignment.workspace.root) == {}
