"""A study on two machines: real PostgreSQL, the real MLflow server with passwords, artifacts that it keeps."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from machines import Machines, machines, report
from servers import INITDB, NEEDS_POSTGRES
from sqlalchemy import NullPool, create_engine, text
from tiny import DEPTH, TUNED_TOYS, make_toy_root, stn_bench

from stn_bench.runner import elsewhere
from stn_bench.runner.elsewhere import check_still_posted, find_posted
from stn_bench.study.load import load_plan
from stn_bench.subject import Lent
from stn_bench.system.errors import StoreError
from stn_bench.system.patience import Patience
from stn_bench.system.workspace import Workspace
from stn_bench.tracking.posted import check_same, plan_of, post, read_posted
from stn_bench.tracking.results import Keys

needs_postgres = pytest.mark.skipif(INITDB is None, reason=NEEDS_POSTGRES)
WAIT = ("--wait", "240")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    with machines(tmp_path_factory.mktemp("machines")) as found:
        yield found


# The plan that travels -------------------------------------------------------------------------------------------


def posted_of(root: Path, **settings: object) -> str:
    workspace = Workspace.at(root)
    plan = load_plan("tiny", workspace, overrides=settings)
    assert plan.subject.prepare
    plan.subject.prepare([arm.config.resolved() for arm in plan.arms], Lent(workspace.datasets, 1))
    return post(plan, Keys(plan.subject, workspace.datasets)).model_dump_json()


def test_a_plan_comes_back_from_the_store_without_its_files(tmp_path: Path) -> None:
    text = posted_of(make_toy_root(tmp_path / "here", TUNED_TOYS), depth=3)
    (tmp_path / "there").mkdir()
    plan = plan_of(read_posted(text, "tiny"), Workspace.at(tmp_path / "there"))
    assert plan.digest == load_plan("tiny", Workspace.at(tmp_path / "here"), overrides={"depth": 3}).digest
    assert [arm.config.flat()["depth"] for arm in plan.arms] == [3, 4]


@pytest.mark.parametrize("study", ["article", "quickstart", "slim"])
def test_the_shipped_studies_travel(study: str, tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path)
    plan = load_plan(study, workspace)
    posted = post(plan, Keys(plan.subject, workspace.datasets))
    assert plan_of(read_posted(posted.model_dump_json(), study), workspace).digest == plan.digest


@pytest.mark.parametrize(
    ("part", "name", "value", "told"),
    [
        ("libraries", "numpy", ["1.0"], "library numpy: there 1.0, here "),
        (
            "code",
            "stn_bench.subjects.toy.train",
            ["f" * 64],
            "code stn_bench.subjects.toy.train: there ffffffffffff, ",
        ),
        ("data", "base", "e" * 64, "data of base: there eeeeeeeeeeee, here "),
    ],
)
def test_what_differs_is_named(tmp_path: Path, part: str, name: str, value: object, told: str) -> None:
    here = read_posted(posted_of(make_toy_root(tmp_path)), "tiny")
    tree = here.model_dump(mode="json")
    known = next(one for one in tree[part] if one.endswith(name.rpartition(".")[2]))
    tree[part][known] = value
    there = read_posted(json.dumps(tree), "tiny")
    with pytest.raises(StoreError) as raised:
        check_same(there, here)
    assert told.replace(name, known) in str(raised.value)
    assert len(str(raised.value).splitlines()) == 2


def test_a_study_that_was_begun_otherwise_meanwhile_is_left_to_others(tmp_path: Path) -> None:
    """Also where the plan is the same, and the code another; what a command asks for besides is its own business."""
    here = read_posted(posted_of(make_toy_root(tmp_path)), "tiny")
    queue: Any = SimpleNamespace(posted=lambda study: there[-1])
    there = [""]
    for alike in (here, here.model_copy(update={"confirm": True})):
        check_still_posted(here, queue)
        there.append(alike.model_dump_json())
    check_still_posted(here, queue)
    name = next(iter(here.code))
    there.append(here.model_copy(update={"code": {**here.code, name: ["f" * 64]}}).model_dump_json())
    with pytest.raises(StoreError, match=f"begun otherwise meanwhile.*: code {re.escape(name)}: there ffffffffffff"):
        check_still_posted(here, queue)


class Begun:
    """A queue in which a study was begun and ended, and is begun anew at some look."""

    def __init__(self, before: str, after: str, at: int) -> None:
        self._before, self._after, self._left = before, after, at

    def posted(self, study: str) -> str:
        self._left -= 1
        return self._before if self._left > 0 else self._after

    def any_open(self, study: str) -> bool:
        return self._left <= 0


@pytest.mark.parametrize(
    ("wait", "lull", "at", "found"),
    [(60.0, 60.0, 3, "after"), (60.0, 0.0, 3, "before"), (0.0, 60.0, 3, "before"), (60.0, 60.0, 1, "after")],
    ids=["begun anew", "over for long", "nobody waits", "under way"],
)
def test_what_an_earlier_run_posted_counts_once_there_are_jobs_or_none_have_come(
    wait: float, lull: float, at: int, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = read_posted(posted_of(make_toy_root(tmp_path)), "tiny")
    after = here.model_copy(update={"confirm": True})
    queue = Begun(here.model_dump_json(), after.model_dump_json(), at)
    monkeypatch.setattr(elsewhere, "open_queue", lambda workspace: queue)
    monkeypatch.setattr(elsewhere, "LULL_SECONDS", lull)
    monkeypatch.setattr("stn_bench.system.patience.PAUSES", (0.001,))
    told = find_posted("tiny", Workspace.at(tmp_path), Patience(wait))
    assert told == {"before": here, "after": after}[found]


def test_a_store_that_names_code_is_not_trusted(tmp_path: Path) -> None:
    tree = json.loads(posted_of(make_toy_root(tmp_path)))
    tree["study"]["subject"] = "antigravity:fly"
    with pytest.raises(StoreError, match=r"names code, `antigravity:fly`.*add --trust"):
        plan_of(read_posted(json.dumps(tree), "tiny"), Workspace.at(tmp_path))


def test_what_another_version_posted_is_refused_in_a_line() -> None:
    with pytest.raises(StoreError, match="posted by another version of stn-bench"):
        read_posted('{"study": {}}', "tiny")


def test_a_worker_of_one_machine_is_told_what_it_lacks(tmp_path: Path) -> None:
    done = stn_bench("worker", "tiny", root=make_toy_root(tmp_path))
    assert done.returncode == 2
    assert "--storage: expected the address of a store that several machines reach" in done.stderr


# On two machines -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@needs_postgres
def test_a_study_on_two_machines_says_what_it_says_on_one(shared: Machines, tmp_path: Path) -> None:
    root, elsewhere, alone = tmp_path / "root", tmp_path / "elsewhere", tmp_path / "alone"
    study = TUNED_TOYS.replace('"epochs" = 3', '"epochs" = 3\n"seconds" = 0.3')
    make_toy_root(root, study)
    worker = shared.start("worker", elsewhere, *WAIT)
    run = shared.start("run", root)
    for process in (run, worker):
        shared.finish(process)
    shared.assert_each_job_once(10)
    trained = [len(list(place.glob("mlruns/logs/*"))) for place in (root, elsewhere)]
    assert all(trained)
    assert not list(elsewhere.glob("studies"))
    assert not list(root.glob("mlruns/artifacts/*"))
    assert stn_bench("run", "tiny", "--workers", 1, root=make_toy_root(alone, study)).returncode == 0
    ours, theirs = report(root), report(alone)
    assert {
        place: (ours.get(place), theirs.get(place)) for place in ours | theirs if ours.get(place) != theirs.get(place)
    } == {}


@pytest.mark.slow
@needs_postgres
def test_a_worker_elsewhere_is_refused_what_it_would_train_otherwise(shared: Machines, tmp_path: Path) -> None:
    shared.fresh()
    early = shared.finish(shared.start("worker", tmp_path / "early"), code=2)
    assert "study `tiny` was not begun in this store" in early
    root = make_toy_root(tmp_path / "root")
    shared.finish(shared.start("run", root))
    with create_engine(shared.queue, poolclass=NullPool).begin() as connection:
        where = "FROM study_user_attributes WHERE key = 'posted'"
        ((told,),) = connection.execute(text(f"SELECT value_json {where}")).all()
        posted = json.loads(json.loads(told))
        posted["libraries"]["numpy"] = ["1.0"]
        change = "UPDATE study_user_attributes SET value_json = :told WHERE key = 'posted'"
        connection.execute(text(change), {"told": json.dumps(json.dumps(posted))})
    refused = shared.finish(shared.start("worker", tmp_path / "late"), code=2)
    assert "library numpy: there 1.0, here" in refused


@pytest.mark.slow
@needs_postgres
def test_another_plan_is_not_begun_while_the_first_is_trained(shared: Machines, tmp_path: Path) -> None:
    shared.fresh()
    seeds = "[11, 12, 13]"
    slow = TUNED_TOYS.partition("[tuning]")[0].replace("[1, 2, 3]", seeds).replace('"epochs" = 3', '"epochs" = 30')
    root = make_toy_root(tmp_path / "root", slow.replace('"epochs"', '"seconds" = 0.5\n"epochs"'))
    run = shared.start("run", root)
    deadline = time.monotonic() + 240
    while not list(root.glob("mlruns/checkpoints/*/*/*")) and time.monotonic() < deadline:
        time.sleep(0.2)
    other = make_toy_root(tmp_path / "other", TUNED_TOYS.replace("[1, 2, 3]", seeds), DEPTH)
    refused = shared.finish(shared.start("run", other), code=2)
    assert "is another here than its other workers train: plan study" in refused
    shared.finish(run)
