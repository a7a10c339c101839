"""A packed study as a file: the same bytes for the same study, shards that are a partition, and what it refuses."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import sys
import zipfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import call
from hypothesis import given
from hypothesis import strategies as st
from tiny import PLAIN, TOYS, TUNED_TOYS, make_root, make_toy_root

from stn_bench.analysis.analyse import nothing_finished
from stn_bench.runner.packed import (
    JOBS,
    PackedJob,
    PackedStudy,
    check_versions,
    read_packed,
    shard,
    unzip_study,
    zip_study,
)
from stn_bench.runner.packing import Packing
from stn_bench.study.catalogue import bundled_root
from stn_bench.study.load import load_plan
from stn_bench.study.plan import RunSpec
from stn_bench.system.errors import ArchiveError, MachineError
from stn_bench.system.workspace import Workspace
from stn_bench.tracking.archive import KIND as RUNS
from stn_bench.tracking.identity import Identity
from stn_bench.tracking.results import Keys
from stn_bench.tracking.zipped import MANIFEST, is_place


def pack(root: Path, *options: object, study: str = "tiny") -> Path:
    """Return the file of a packed study, which lies beside its root."""
    file = root.with_name(f"{root.name}.zip")
    assert call("pack", study, file, "--root", root, *options) == 0
    return file


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy_root(tmp_path_factory.mktemp("packed") / "root", TOYS)


@pytest.fixture(scope="module")
def content(root: Path) -> bytes:
    return pack(root).read_bytes()


# What it is ------------------------------------------------------------------------------------------------------


def test_the_same_study_gives_the_same_bytes_wherever_it_lies(content: bytes, tmp_path: Path) -> None:
    assert pack(make_toy_root(tmp_path / "elsewhere", TOYS)).read_bytes() == content


def test_it_is_read_as_it_was_packed(content: bytes) -> None:
    packed = unzip_study(content)
    assert packed.digest == hashlib.sha256(content).hexdigest()
    assert zip_study(packed) == content
    assert {(job.spec.label, job.spec.seed) for job in packed.jobs} == {
        (label, seed) for label in ("base", "depth/four") for seed in (1, 2, 3)
    }
    assert all(job.metric == "test.score" for job in packed.jobs)
    assert sorted(packed.files) == ["ablations/depth.toml", "studies/tiny.toml"]


def test_it_says_nothing_of_the_machine(root: Path, content: bytes) -> None:
    for name, member in members_of(content).items():
        assert str(root).encode() not in member, name
        assert b"mlflow.db" not in member, name


def test_packing_leaves_no_store_behind(root: Path, content: bytes) -> None:
    assert [path.name for path in (root / "mlruns").iterdir()] == ["datasets"]


def test_tuning_is_packed_before_the_verdict(tmp_path: Path) -> None:
    packed = read_packed(pack(make_toy_root(tmp_path / "root", TUNED_TOYS)))
    assert sorted((job.spec.phase, job.spec.label, job.spec.trial) for job in packed.jobs) == [
        ("tune", label, trial) for label in ("base", "depth/four") for trial in (0, 1)
    ]


def test_overrides_are_packed(tmp_path: Path) -> None:
    packed = read_packed(pack(make_toy_root(tmp_path / "root", TOYS), "--set", "epochs=5"))
    assert {job.spec.settings["epochs"] for job in packed.jobs} == {5}


def test_a_frozen_plan_is_packed_as_it_was_frozen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_toy_root(tmp_path / "root", TOYS)
    assert call("plan", "tiny", "--freeze", "--root", root) == 0
    assert call("pack", "tiny", tmp_path / "work.zip", "--set", "epochs=5", "--root", root) == 2
    assert "epochs" in capsys.readouterr().err
    assert not (tmp_path / "work.zip").exists()


def test_code_that_is_not_there_is_told_before_data_are_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_root(tmp_path / "root", PLAIN)
    assert call("pack", "tiny", tmp_path / "work.zip", "--set", "model.factory=nowhere:build", "--root", root) == 2
    assert "no Python module `nowhere`" in capsys.readouterr().err
    assert not (root / "mlruns").exists()


# What every study has to keep ------------------------------------------------------------------------------------

ROOTS = [bundled_root(), *sorted(path.parent for path in bundled_root().glob("examples/*/studies"))]
STUDIES = [(root, path.stem) for root in ROOTS for path in sorted((root / "studies").glob("*.toml"))]


@pytest.mark.parametrize(("root", "study"), STUDIES, ids=lambda one: one if isinstance(one, str) else one.name)
def test_every_shipped_study_can_be_packed(root: Path, study: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its data are not made for it, since that takes minutes: they are said to be there."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    workspace = Workspace.at(root)
    loaded = load_plan(study, workspace)
    subject = replace(loaded.subject, fingerprint=lambda settings, data: "f" * 64, originals=None)
    planned = replace(loaded, subject=subject, arms=tuple(replace(arm, subject=subject) for arm in loaded.arms))
    keys = Keys(subject, workspace.datasets)
    packed = Packing(planned, workspace, nothing_finished(planned), keys).pack()
    first = planned.study.seeds[: planned.study.all_looks[0]]
    wanted = [spec for arm in planned.arms for spec in arm.tuning_specs()]  # two trials may be the same point
    wanted += [spec for arm in planned.arms if not arm.trials for spec in arm.verdict_specs({}) if spec.seed in first]
    assert [job.run_key for job in packed.jobs] == sorted({keys.run_key(spec) or "" for spec in wanted})
    content = zip_study(packed)
    assert str(root).encode() not in b"".join(members_of(content).values())
    assert zip_study(unzip_study(content)) == content
    assert {"python", "stn-bench"} <= packed.versions.keys()
    assert not {"mlflow", "optuna", "sqlalchemy"} & packed.versions.keys()
    if root != bundled_root():
        assert f"{root.name}.py" in packed.files


# Shards ----------------------------------------------------------------------------------------------------------


def job(seed: int, seconds: float | None = None) -> PackedJob:
    spec = RunSpec("small", "base", "base", "verdict", seed, None, {}, {}, {"epochs": 1})
    return PackedJob(
        spec=spec, identity=Identity({"epochs": 1}, seed, "", {}, {}), metric="test.score", seconds=seconds
    )


@given(st.lists(st.none() | st.floats(0, 1e6), max_size=40), st.integers(1, 12), st.randoms())
def test_shards_are_a_partition_whatever_the_order(seconds: list[float | None], count: int, random: Any) -> None:
    jobs = [job(seed, one) for seed, one in enumerate(seconds)]
    shuffled = random.sample(jobs, len(jobs))
    shards = [shard(jobs, number, count) for number in range(1, count + 1)]
    assert [shard(shuffled, number, count) for number in range(1, count + 1)] == shards
    keys = [one.run_key for some in shards for one in some]
    assert len(keys) == len(set(keys))
    assert set(keys) == {one.run_key for one in jobs}


def test_the_mean_of_what_is_known_depends_on_no_order() -> None:
    """Of jobs that count as long as the mean a sum that rounds by its order would move some to another part."""
    jobs = [job(seed, one) for seed, one in enumerate([None, None, 0.0, 254.0, 1.02827, 1.3, None, None])]
    expected = [shard(jobs, number, 2) for number in (1, 2)]
    for order in itertools.islice(itertools.permutations(jobs), 0, None, 997):
        assert [shard(order, number, 2) for number in (1, 2)] == expected


@given(st.lists(st.floats(1, 100), min_size=1, max_size=40), st.integers(1, 8))
def test_no_shard_has_more_than_a_job_above_another(seconds: list[float], count: int) -> None:
    jobs = [job(seed, one) for seed, one in enumerate(seconds)]
    work = [sum(one.seconds or 0 for one in shard(jobs, number, count)) for number in range(1, count + 1)]
    assert max(work) - min(work) <= max(seconds) + 1e-6


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "1/0", "a/b", "1/3/5", "-1/3", "1.5/3", ""])
def test_a_shard_that_is_none_is_a_line(text: str, content: bytes, root: Path, tmp_path: Path, capsys: Any) -> None:
    code = call("work", root.with_name("root.zip"), "-o", tmp_path / "results.zip", f"--shard={text}")
    assert code == 2
    assert "expected K/N" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# Versions --------------------------------------------------------------------------------------------------------


def test_another_version_is_refused_by_its_name(content: bytes) -> None:
    versions = unzip_study(content).versions
    check_versions(versions)
    assert {"python", "stn-bench", "numpy"} <= versions.keys()
    with pytest.raises(MachineError, match=r"numpy [\d.]+ instead of 1\.0"):
        check_versions({**versions, "numpy": "1.0"})
    with pytest.raises(MachineError, match=r"python 3\.\d+ instead of 3\.9"):
        check_versions({**versions, "python": "3.9"})
    with pytest.raises(MachineError, match=r"no-such-library missing instead of 1"):
        check_versions({**versions, "no-such-library": "1"})


# What it refuses -------------------------------------------------------------------------------------------------


def members_of(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        return {name: file.read(name) for name in file.namelist()}


def zipped(members: Iterable[tuple[str | zipfile.ZipInfo, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members:
            file.writestr(name, content)
    return buffer.getvalue()


def forged(content: bytes, changes: dict[str, bytes], **manifest: Any) -> bytes:
    """Return a packed study with other members and other words in its manifest, whose checksums agree."""
    members = {**members_of(content), **changes}
    tree = json.loads(members.pop(MANIFEST))
    digests = {name: hashlib.sha256(one).hexdigest() for name, one in members.items()}
    return zipped([(MANIFEST, json.dumps({**tree, "members": digests, **manifest}).encode()), *members.items()])


def with_job(content: bytes, change: Any) -> bytes:
    first, *rest = members_of(content)[JOBS].splitlines()
    tree = json.loads(first)
    change(tree)
    return forged(content, {JOBS: b"\n".join([json.dumps(tree).encode(), *rest])})


def refused(content: bytes) -> str:
    with pytest.raises(ArchiveError) as caught:
        unzip_study(content)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_a_forged_one_can_be_sound(content: bytes) -> None:
    assert unzip_study(forged(content, {})).jobs == unzip_study(content).jobs


@pytest.mark.parametrize("broken", [b"", b"no zip", b"PK\x03\x04 cut short", b"PK\x05\x06" + bytes(18) + b"tail"])
def test_what_is_no_zip_file_is_refused(broken: bytes) -> None:
    assert "zip file" in refused(broken)


def test_every_cut_and_every_flipped_byte_is_refused_or_changes_nothing(content: bytes) -> None:
    sound = unzip_study(content)
    for place in range(0, len(content), 7):
        assert refused(content[:place])
        flipped = content[:place] + bytes([content[place] ^ 0x40]) + content[place + 1 :]
        with contextlib.suppress(ArchiveError):
            found = unzip_study(flipped)
            assert (found.jobs, found.files, found.versions) == (sound.jobs, sound.files, sound.versions)


@pytest.mark.parametrize(
    "place",
    [
        "../x.py",
        "/etc/passwd",
        "notes.txt",
        "root/../x.py",
        "root/a/../../x.py",
        "root//x.py",
        "root/./x.py",
        "root/C:x.py",
        "root\\..\\x.py",
        "root/x.py\n",
        "root/x\x1b[2J.py",
        "root/x\u202e.py",
        "root/con.py",
        "root/nul",
        "root/x.",
        "root/ x",
        "root/mlruns/mlflow.db",
        "root/mlruns/checkpoints/x",
        "root/mlruns/datasets/../x",
        f"root/{'x' * 300}",
    ],
)
def test_a_member_that_leads_out_is_refused(content: bytes, place: str) -> None:
    assert "which no archive of work has" in refused(forged(content, {place: b"x"}))


def test_a_link_is_written_as_a_file_or_not_at_all(content: bytes) -> None:
    link = zipfile.ZipInfo("root/link")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    members = members_of(content)
    tree = json.loads(members.pop(MANIFEST))
    tree["members"]["root/link"] = hashlib.sha256(b"/etc/passwd").hexdigest()
    packed = unzip_study(zipped([(MANIFEST, json.dumps(tree).encode()), *members.items(), (link, b"/etc/passwd")]))
    assert packed.files["link"] == b"/etc/passwd"  # the name that it leads to, as a file of text


def test_what_unpacks_to_too_much_is_refused(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stn_bench.tracking.zipped.MOST_BYTES", 1 << 20)
    assert "unpack to more than" in refused(forged(content, {"root/x.npy": bytes(1 << 21)}))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kind": "book"}, "not an archive of work"),
        ({"kind": RUNS}, "`stn-bench import` reads"),
        ({"kind": 3}, "not an archive of work"),
        ({"format": 99}, "format 99"),
        ({"study": "../x"}, "no name"),
        ({"study": "other"}, "one of study 'tiny'"),
        ({"subject": "os; import x"}, "no subject"),
        ({"subject": "a:b:c"}, "no subject"),
        ({"versions": {"numpy\x1b": "1"}}, "no version"),
        ({"versions": {"numpy": "1 && rm"}}, "no version"),
        ({"jobs": 99}, "the manifest says 99"),
        ({"more": 1}, "not ours"),
    ],
)
def test_another_manifest_is_refused(content: bytes, changes: dict[str, Any], told: str) -> None:
    assert told in refused(forged(content, {}, **changes))


def rename(name: str) -> Any:
    return lambda tree: tree["spec"].update(arm=name)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda tree: tree["spec"].update(seed=99), "another run's"),
        (lambda tree: tree["spec"].update(seed="three"), "not a job"),
        (lambda tree: tree["identity"].update(start="a" * 64), "another run's"),
        (rename("../x"), "no name"),
        (rename("x\x1b[2J"), "no name"),
        (lambda tree: tree.update(metric="x\x1b[2J"), "no name of a metric"),
        (lambda tree: tree["spec"]["settings"].update(fate="x\x1b[2J"), "U+001B"),
        (lambda tree: tree["identity"].update(dataset="x"), "no SHA-256"),
        (lambda tree: tree.update(seconds=-1.0), "not a job"),
        (lambda tree: tree.update(more=1), "not a job"),
        (lambda tree: tree.pop("spec"), "not a job"),
    ],
)
def test_another_job_is_refused(content: bytes, change: Any, told: str) -> None:
    assert told in refused(with_job(content, change))


def test_a_job_that_is_there_twice_is_refused(content: bytes) -> None:
    lines = members_of(content)[JOBS].splitlines()
    assert "5 different jobs" in refused(forged(content, {JOBS: b"\n".join([lines[0], *lines[:-1]])}))


def test_import_says_what_work_is_for(content: bytes, root: Path, tmp_path: Path, capsys: Any) -> None:
    assert call("import", root.with_name("root.zip"), "--root", tmp_path) == 2
    assert "`stn-bench work` trains" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["missing", "folder", "text"])
def test_a_bad_file_is_two_and_leaves_nothing(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "work.zip"
    if kind == "folder":
        file.mkdir()
    if kind == "text":
        file.write_bytes(b"text")
    before = list(tmp_path.iterdir())
    assert call("work", file, "-o", tmp_path / "results.zip") == 2
    err = capsys.readouterr().err
    assert err.startswith(f"stn-bench: {file}: ")
    assert err.endswith("nothing of it was run\n")
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == before


def test_a_place_is_one_on_every_system() -> None:
    assert all(map(is_place, ["a", "a/b.py", "pictures/Bärte 1 (2).png", ".hidden/x", "a-b_c.d/e"]))
    assert not any(map(is_place, ["", "/a", "a/", "a//b", "..", "a/..", "a\\b", "a:b", "a?", "a\0", "AUX.txt", "a "]))


def test_a_study_keeps_what_it_is_called() -> None:
    packed = PackedStudy("small", "toy", (job(1),), {"python": "3.12"}, {})
    assert unzip_study(zip_study(packed)).study == "small"
