"""Random files, overrides and records: what is not accepted is refused with a line, and never with a traceback."""

from __future__ import annotations

import copy
import datetime
import hashlib
import io
import json
import shutil
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from makers import STN, ablation, arm, plan, record, write
from stores import artifact_file, finish, open_store

from stn_bench.runner.packed import PackedJob, PackedStudy, unzip_study, zip_study
from stn_bench.runner.work import Work
from stn_bench.settings import override
from stn_bench.study.catalogue import load
from stn_bench.study.plan import Plan, make_plan
from stn_bench.study.preregistration import terms_of
from stn_bench.study.spec import Ablation, Arm, Claim, Range, Study, Tuning
from stn_bench.study.toml import parse_assignment, read_toml
from stn_bench.subject import find_subject
from stn_bench.subjects.stn.config import Config
from stn_bench.subjects.stn.data.store import MANIFEST, read_manifest
from stn_bench.system.errors import CatalogueError, StnBenchError
from stn_bench.system.machine import Resources
from stn_bench.tracking.archive import Archive, merge, pack, unpack
from stn_bench.tracking.identity import identify
from stn_bench.tracking.mlflow import Tracking
from stn_bench.tracking.record import RunRecord

Tree = dict[str, Any]
ROOT = Path(__file__).parent.parent
SOUND = Path(__file__).parent / "fixtures" / "sound"
USER = """
title = "A study"
ablations = ["fuzz"]
seeds = [1, 2, 3]

[tuning]
trials = 2
[tuning.search]
"data.correction.extent" = { low = 0.7, high = 0.9 }
"""


def fuzzed(examples: int) -> settings:
    """Return the settings of a test here: the same examples each time, on however slow a machine."""
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(derandomize=True, max_examples=examples, suppress_health_check=checks)


def attempt(action: Callable[[], Any]) -> Any:
    """Return what comes of something, or None where it was refused as bad input should be; all else is raised."""
    try:
        return action()
    except StnBenchError as error:
        message = str(error)
        assert 1 <= len(message.splitlines()) <= 2, message
        assert len(message) < 1000, message
        assert message.replace("\n", "").isprintable(), ascii(message)
        return None


# Trees and their mutations -----------------------------------------------------------------------------------------

WORDS = (
    "base",
    "narrow",
    "depth",
    "rich",
    "small",
    "fuzz",
    "flops",
    "relu",
    "sgd",
    "test.accuracy",
    "../x",
    "",
    "a\nb",
)
NUMBERS = (0, 1, -1, 2, 3, 5, 0.5, 1e-3, 1e308, 5e-324, 2**31, 2**63 - 1, 2**63, -(2**70), 1000, 101)
KEYS = tuple(
    dict.fromkeys(
        name for model in (Ablation, Arm, Claim, Range, Study, Tuning) for name in (*model.model_fields, "extends")
    )
)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
dates = st.sampled_from((datetime.date(2026, 1, 1), datetime.datetime(1, 1, 1), datetime.time(23, 59)))
leaves = st.booleans() | st.integers() | st.floats() | text | st.sampled_from(WORDS) | st.sampled_from(NUMBERS)
keys = st.sampled_from(KEYS) | st.sampled_from(STN.paths) | text
toml_values = st.recursive(
    leaves | dates, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=8
)
json_values = st.recursive(
    leaves | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=8,
)


def nested(depth: int) -> Any:
    """Return a list within lists and tables."""
    value: Any = 1
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


def nudged(value: Any) -> Any:
    """Return a value of the same type that is near."""
    if isinstance(value, bool):
        return not value
    return f"{value} more" if isinstance(value, str) else value + 1 if isinstance(value, int) else value / 2


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every table or list inside a tree, with each of its keys."""
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from places(tree[key])


@st.composite
def mutated(draw: st.DrawFn, trees: tuple[Tree, ...], values: st.SearchStrategy[Any]) -> Tree:
    """Return a sound tree with one to three things changed in it."""
    tree: Tree = copy.deepcopy(draw(st.sampled_from(trees)))
    for _ in range(draw(st.sampled_from((1, 1, 2, 3)))):
        found = list(places(tree))
        node, key = draw(st.sampled_from(found)) if found else (tree, draw(keys))
        other, other_key = draw(st.sampled_from(found)) if found else (tree, key)
        match draw(st.sampled_from(("replace", "drop", "add", "copy", "nest", "repeat", "nudge", "nudge"))):
            case "drop" if found:
                del node[key]
            case "add":
                draw(st.sampled_from([tree, *(one for one, _ in found if isinstance(one, dict))]))[draw(keys)] = draw(
                    values
                )
            case "copy" if found:
                node[key] = copy.deepcopy(other[other_key])
            case "nest":
                node[key] = nested(draw(st.sampled_from((3, 18, 19, 20, 21, 300))))
            case "nudge" if isinstance(node[key], str | int | float):
                node[key] = nudged(node[key])
            case "repeat" if isinstance(node, list):
                node.append(node[key])
            case _:
                node[key] = draw(values)
    return tree


def toml(value: Any) -> str:
    """Return a value as TOML, tables inline."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(str(key))} = {toml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, datetime.date | datetime.time) else repr(value)


def document(tree: Tree) -> str:
    """Return a tree as a TOML file."""
    return "".join(f"{toml(key)} = {toml(value)}\n" for key, value in tree.items())


def turned(value: Any, key: str = "") -> Any:
    """Return the same with the keys of every table in the opposite order, but for the arms: theirs is the report's."""
    if isinstance(value, list):
        return [turned(one) for one in value]
    if not isinstance(value, dict):
        return value
    order = list(value) if key in ("arms", "factors") else list(reversed(value))
    return {name: turned(value[name], name) for name in order}


def read(folder: Path) -> tuple[Tree, ...]:
    return tuple(tomllib.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.toml")))


STUDIES = (*read(SOUND / "studies"), *read(ROOT / "studies"))
ABLATIONS = (*read(SOUND / "ablations"), *read(ROOT / "ablations"))


def test_the_writer_of_toml_is_right() -> None:
    for tree in (*STUDIES, *ABLATIONS):
        assert tomllib.loads(document(tree)) == tree
        assert tomllib.loads(document(turned(tree))) == tree


# Files -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a root with the sound files."""
    folder = tmp_path_factory.mktemp("root")
    shutil.copytree(SOUND, folder, dirs_exist_ok=True)
    (folder / "studies/user.toml").write_text(USER)
    return folder


def planned(root: Path, kind: str, content: str) -> Plan | None:
    """Return the plan of the study, or of a study with the ablation, in a file; None if it is refused."""
    (root / kind / "fuzz.toml").write_text(content, encoding="utf-8")
    made: Plan | None = attempt(lambda: make_plan(*load(root, "fuzz" if kind == "studies" else "user")))
    return made


def check_stable(root: Path, kind: str, tree: Tree) -> bool:
    """See that a plan, where there is one, does not depend on the hour or on the order of keys; return if it is."""
    first = planned(root, kind, document(tree))
    if first is None:
        return False
    for again in (document(tree), document(turned(tree))):
        second = planned(root, kind, again)
        assert second is not None
        assert second == first
        assert (second.digest, terms_of(second)) == (first.digest, terms_of(first))
        assert [arm.tuning_specs() for arm in second.arms[:1]] == [arm.tuning_specs() for arm in first.arms[:1]]
    return True


@pytest.mark.parametrize(("kind", "sound", "examples"), [("studies", STUDIES, 90), ("ablations", ABLATIONS, 80)])
def test_a_mutated_file_is_planned_alike_or_refused(root: Path, kind: str, sound: Any, examples: int) -> None:
    accepted: list[bool] = []

    @fuzzed(examples)
    @given(mutated(sound, toml_values))
    def check(tree: Tree) -> None:
        accepted.append(check_stable(root, kind, tree))

    check()
    whole = [check_stable(root, kind, tree) for tree in sound]  # how many mutated ones are accepted is chance
    assert all(whole)
    assert sum(accepted) < len(accepted)


def test_a_random_file_is_refused(root: Path) -> None:
    @fuzzed(60)
    @given(st.dictionaries(keys, toml_values, max_size=6).map(document) | st.text(st.characters(codec="utf-8")))
    def check(content: str) -> None:
        for kind in ("studies", "ablations"):
            planned(root, kind, content)

    check()


@pytest.mark.parametrize(
    ("form", "depth"), [(form, depth) for form in ("[", "{ a = ", "a.") for depth in (21, 1000, 100_000)]
)
def test_deep_nesting_is_refused(form: str, depth: int, root: Path) -> None:
    close = {"[": "]", "{ a = ": " }", "a.": ""}[form]
    content = f"x{'.' if form == 'a.' else ' = '}{form * depth}{'z =' if form == 'a.' else ''} 1{close * depth}\n"
    with pytest.raises(CatalogueError, match="expected at most 20 tables and lists within one another, got more"):
        read_toml(write(root / "deep.toml", content))


# Overrides ---------------------------------------------------------------------------------------------------------

paths = st.sampled_from(STN.paths)
usual = st.sampled_from([value for value in Config().flat().values() if value is not None and value != ()])
known = st.sampled_from([(path, toml(value)) for path, value in Config().flat().items() if value not in (None, ())])
assignments = (
    known.map("=".join)
    | st.builds("{}={}".format, paths, (usual | leaves).map(toml))
    | st.builds("{}={}".format, paths | text, toml_values.map(toml) | text | st.sampled_from(WORDS))
)


def test_a_random_override_is_taken_or_refused(root: Path) -> None:
    accepted: list[Config] = []
    study = load(root, "small")

    @fuzzed(200)
    @given(assignments | text)
    def check(assignment: str) -> None:
        config = attempt(lambda: override(Config(), dict([parse_assignment(assignment, Config)]), where="--set"))
        if config is not None:
            accepted.append(config)
            assert Config.model_validate(config.model_dump()).canonical() == config.canonical()
            attempt(lambda: make_plan(*study, overrides=dict([parse_assignment(assignment, Config)])).digest)

    check()
    assert len(accepted) > 20


@pytest.mark.parametrize(
    "value", ["9" * 5000, "0x" + "f" * 5000, "[" * 5000, "5\ntrain.batch_size = 3", "\udcff", "\x1b[2J", "1979-13-41"]
)
def test_an_override_that_nobody_means_is_refused(value: str) -> None:
    assert (
        attempt(lambda: override(Config(), dict([parse_assignment(f"train.epochs={value}", Config)]), where="--set"))
        is None
    )


# Records -----------------------------------------------------------------------------------------------------------

SPEC = plan(ablation(arm("narrow", {"model.width": 0.5}))).arms[1].verdict_specs({})[0]
KEY = "a" * 64
RECORD = record(SPEC, "r1", test_accuracy=0.5).model_copy(update={"run_key": KEY})


def mangled(content: bytes, where: float, byte: int) -> bytes:
    """Return bytes cut at a place, or with one of them replaced there."""
    at = int(where * len(content))
    return content[:at] if byte < 0 else content[:at] + bytes([byte]) + content[at + 1 :]


SOUND_RECORD: Tree = json.loads(RECORD.model_dump_json())
records = mutated((SOUND_RECORD,), json_values).map(lambda tree: json.dumps(tree).encode()) | st.builds(
    mangled, st.just(RECORD.model_dump_json().encode()), st.floats(0, 0.999), st.integers(-1, 255)
)


def archive_with(line: bytes) -> bytes:
    """Return an archive of one record, whatever that is, with a manifest that fits."""
    with zipfile.ZipFile(io.BytesIO(pack(Archive("small", (RECORD,), {})))) as file:
        manifest = json.loads(file.read("manifest.json"))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("records.jsonl", line)
        manifest["members"] = {"records.jsonl": hashlib.sha256(line).hexdigest()}
        file.writestr("manifest.json", json.dumps(manifest))
    return buffer.getvalue()


def test_the_sound_record_is_read() -> None:
    assert unpack(archive_with(RECORD.model_dump_json().encode())).records == (RunRecord(**SOUND_RECORD),)


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Tracking:
    return open_store(tmp_path_factory.mktemp("store"))


def test_a_mangled_record_is_imported_or_refused(tracking: Tracking) -> None:
    accepted: list[Archive] = []

    @fuzzed(60)
    @given(records)
    def check(line: bytes) -> None:
        archive = attempt(lambda: unpack(archive_with(line)))
        if archive is not None:
            accepted.append(archive)
            if len(accepted) <= 6:  # MLflow is slow
                attempt(lambda: merge(archive, tracking))

    check()
    assert len(accepted) > 20


def test_a_mangled_record_in_the_store_is_read_or_refused(tracking: Tracking) -> None:
    run_id = finish(SPEC, tracking).run_id
    place = artifact_file(tracking, run_id, "record.json")
    read: list[RunRecord] = []

    @fuzzed(40)
    @given(records)
    def check(content: bytes) -> None:
        place.write_bytes(content)
        found = attempt(lambda: tracking.records([run_id]))
        read.extend(found or [])

    check()
    assert len(read) > 5


# Packed studies ----------------------------------------------------------------------------------------------------

TOY_SPEC = plan(ablation(arm("deep", {"depth": 4})), subject="toy").arms[1].verdict_specs({})[0]
JOB = PackedJob(spec=TOY_SPEC, identity=identify(find_subject("toy"), TOY_SPEC.settings, 1, "f" * 64), metric="m")
SOUND_JOB: Tree = json.loads(JOB.model_dump_json())
jobs = mutated((SOUND_JOB,), json_values).map(lambda tree: json.dumps(tree).encode()) | st.builds(
    mangled, st.just(JOB.model_dump_json().encode()), st.floats(0, 0.999), st.integers(-1, 255)
)


def packed_with(line: bytes) -> bytes:
    """Return a packed study of one job, whatever that is, with a manifest that fits."""
    with zipfile.ZipFile(io.BytesIO(zip_study(PackedStudy("small", "toy", (JOB,), {}, {})))) as file:
        manifest = json.loads(file.read("manifest.json"))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("jobs.jsonl", line)
        manifest["members"] = {"jobs.jsonl": hashlib.sha256(line).hexdigest()}
        file.writestr("manifest.json", json.dumps(manifest))
    return buffer.getvalue()


class Nobody:
    """A watcher that is told for nothing."""

    def preparing(self, data: str, done: int, count: int) -> None: ...

    def phase(self, phase: str, jobs: Any, reused: int) -> None: ...

    def event(self, event: Any) -> None: ...

    def say(self, line: str) -> None: ...


def test_a_mangled_job_is_prepared_or_refused(tmp_path: Path) -> None:
    read: list[PackedStudy] = []
    assert unzip_study(packed_with(JOB.model_dump_json().encode())).jobs[0].run_key == JOB.run_key

    @fuzzed(150)
    @given(jobs)
    def check(line: bytes) -> None:
        packed = attempt(lambda: unzip_study(packed_with(line)))
        if packed is not None:
            read.append(packed)
            work = Work(packed, packed.jobs, tmp_path / f"{len(read)}.zip", Resources(1, 1))
            attempt(work.check)
            if (subject := attempt(work.subject)) is not None:
                attempt(lambda: work.prepared(subject, Nobody()))

    check()
    assert len(read) > 5


def test_runs_of_another_program_with_our_tag_are_passed_over(tracking: Tracking) -> None:
    before = tracking.finished()
    experiment = tracking.open_study("elsewhere")
    for tags in ({}, {"run_key": "x", "phase": "verdict"}, {"run_key": "x", "phase": "verdict", "seed": "many"}):
        run_id = tracking.start_run(experiment, None, "theirs", {"run_key": "y", **tags})
        if not tags:
            tracking._client.delete_tag(run_id, "run_key")
        tracking.describe(run_id, {}, {})
    assert tracking.finished() == before
    with pytest.raises(StnBenchError, match="0 finished runs begin with `y`"):
        tracking.find_run("y")


# Manifests ---------------------------------------------------------------------------------------------------------


def test_a_mangled_manifest_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("letters")
    sound = (SOUND.parent / "broken/datasets/images_changed" / MANIFEST).read_bytes()

    @fuzzed(60)
    @given(
        mutated((json.loads(sound),), json_values).map(lambda tree: json.dumps(tree).encode())
        | st.builds(mangled, st.just(sound), st.floats(0, 0.999), st.integers(-1, 255))
    )
    def check(content: bytes) -> None:
        (folder / MANIFEST).write_bytes(content)
        attempt(lambda: read_manifest(folder))

    check()
