"""Files that others may hand us, each broken in the one way that its name says, and the line that each is met with.

The corpus lies in `fixtures/broken`, with `expected.toml`: a file there is tested by being there.
"""

from __future__ import annotations

import re
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import call
from makers import STN

from stn_bench.study.catalogue import Catalogue, load
from stn_bench.study.plan import make_plan
from stn_bench.study.spec import Study
from stn_bench.subjects.stn.data import store
from stn_bench.subjects.stn.data.dataset import make_dataset, open_dataset
from stn_bench.subjects.stn.data.folder import import_folder
from stn_bench.subjects.stn.data.spec import DatasetSpec
from stn_bench.system.errors import DataError, StnBenchError
from stn_bench.tracking.archive import read_archive

BROKEN = Path(__file__).parent / "fixtures" / "broken"
SOUND = BROKEN.parent / "sound"
EXPECTED = {
    f"{kind}/{name}": line
    for kind, lines in tomllib.loads((BROKEN / "expected.toml").read_text(encoding="utf-8")).items()
    for name, line in lines.items()
}
KINDS = ("ablations", "archives", "datasets", "models", "pictures", "stores", "studies")
MLFLOWS = ("of_a_newer_mlflow.db", "revision_is_no_revision.db")
FOLDERS = ("datasets",)  # where each entry is a folder of files
SPEC = DatasetSpec("captcha", count=4, size=16, alphabet="ABCD", fonts=(), shapes="varied", pad_byte=0, seed=0)


def entries() -> list[str]:
    """Return every broken thing by its path in the corpus."""
    paths = [path for kind in KINDS for path in sorted((BROKEN / kind).rglob("*"))]
    found = [path for path in paths if path.is_file() and path.relative_to(BROKEN).parts[0] not in FOLDERS]
    folders = [path for kind in FOLDERS for path in sorted((BROKEN / kind).iterdir())]
    return [path.relative_to(BROKEN).as_posix() for path in (*found, *folders)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a root with the sound files, to which a broken one is added."""
    shutil.copytree(SOUND, tmp_path, dirs_exist_ok=True)
    return tmp_path


def put(name: str, root: Path) -> Path:
    """Copy a broken thing to where it would lie, and return its path."""
    kind, _, rest = name.partition("/")
    source = BROKEN / name
    place = {"datasets": "mlruns/datasets", "pictures": "pictures"}.get(kind, kind)
    target = root / place / rest
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    return target


# How each kind is read ---------------------------------------------------------------------------------------------


def read_ablation(path: Path) -> object:
    """Read a question, and plan a study that asks it: some mistakes show only in its settings."""
    asked = Catalogue(path.parent.parent).ablation(path.stem)
    return make_plan(Study(name="any", title="A study", ablations=(asked.name,), seeds=(1, 2, 3)), (asked,), STN)


def read_study(path: Path) -> object:
    return make_plan(*load(path.parent.parent, path.stem))


def read_dataset(path: Path) -> object:
    return make_dataset(spec_of(path.name), path.parent)


def read_picture(path: Path) -> object:
    return import_folder(path.parent, "letters", path.parent / "sets", size=16, alphabet="ABCDEFGHIJK")


def read_model(path: Path) -> object:
    from stn_bench.subjects.stn.nn.model_file import load_model

    return load_model(path)


def read_store(path: Path) -> object:
    url, lock = f"sqlite:///{path}", path.with_suffix(".lock")
    if path.parent.name == "search":
        from stn_bench.runner.queue import Queue

        return Queue(url, 60, lock)
    from stn_bench.tracking.mlflow import Tracking

    return Tracking(url, path.with_suffix(".artifacts"), lock).finished()


def spec_of(name: str) -> DatasetSpec:
    return DatasetSpec(**{**vars(SPEC), "source": name})


READERS: dict[str, Callable[[Path], object]] = {
    "ablations": read_ablation,
    "archives": read_archive,
    "datasets": read_dataset,
    "models": read_model,
    "pictures": read_picture,
    "stores": read_store,
    "studies": read_study,
}


# The corpus --------------------------------------------------------------------------------------------------------


def test_every_broken_file_has_its_line_and_every_line_its_file() -> None:
    assert sorted(EXPECTED) == sorted(entries())


def test_the_corpus_has_every_kind_and_is_large() -> None:
    assert {name.partition("/")[0] for name in EXPECTED} == set(KINDS) == set(READERS)
    assert len(EXPECTED) >= 60


def test_what_the_broken_files_lean_on_is_sound(root: Path) -> None:
    catalogue = Catalogue(root)
    assert make_plan(*load(root, "small")).jobs() == 6
    assert make_plan(*load(root, "rich")).jobs() > 0
    assert len(catalogue.ablation("rich").arms) == 7


def assert_line(message: str, name: str, path: Path, root: Path) -> None:
    """Compare a message with its expected line, in which … stands for words of a library."""
    assert 1 <= len(message.splitlines()) <= 2
    line = EXPECTED[name].replace("{path}", str(path)).replace("{root}", str(root))
    pattern = ".*".join(map(re.escape, line.split("…")))
    assert re.fullmatch(pattern, message, re.DOTALL), f"{name}\nexpected: {line}\nreceived: {message}"


@pytest.mark.parametrize("name", EXPECTED)
def test_a_broken_file_is_met_with_its_line(name: str, root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = put(name, root)
    with pytest.raises(StnBenchError) as caught:
        READERS[name.partition("/")[0]](path)
    assert_line(str(caught.value), name, path, root)
    told = capfd.readouterr().err
    assert "Traceback" not in told
    assert not name.startswith("pictures/") or told == ""  # OpenCV and libpng would have a word of their own


@pytest.mark.parametrize("name", sorted(name for name in EXPECTED if name.startswith("stores/")))
def test_a_refused_store_is_left_as_it_was(name: str, root: Path) -> None:
    path = put(name, root)
    with pytest.raises(StnBenchError):
        read_store(path)
    if name.rpartition("/")[2] not in MLFLOWS:  # these get their journal before MLflow tells their version
        assert path.read_bytes() == (BROKEN / name).read_bytes()


# What was drawn is drawn again, not refused -----------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(name for name in EXPECTED if name.startswith("datasets/")))
def test_a_drawn_data_set_that_is_broken_is_drawn_again(name: str, tmp_path: Path) -> None:
    sound = make_dataset(SPEC, tmp_path / "sound")
    shutil.copytree(BROKEN / name, tmp_path / "sets" / SPEC.folder_name)
    mended = make_dataset(SPEC, tmp_path / "sets")
    assert mended.fingerprint == sound.fingerprint
    np.testing.assert_array_equal(mended.images, sound.images)


@pytest.mark.parametrize("labels", [np.array([0, 1, 2, 4]), np.arange(3), np.array(["A"] * 4)], ids=str)
def test_arrays_that_a_drawn_manifest_fits_but_nothing_else_are_drawn_again(
    labels: np.ndarray[tuple[int], np.dtype[np.generic]], tmp_path: Path
) -> None:
    sound = make_dataset(SPEC, tmp_path)
    drawn, fonts = np.array(sound.labels), store.read_manifest(sound.folder).fonts
    np.save(sound.folder / store.LABELS, labels)
    (sound.folder / store.MANIFEST).unlink()
    store.write_manifest(sound.folder, SPEC, fonts=fonts)
    with pytest.raises(DataError, match=r"labels\.npy: expected"):
        open_dataset(SPEC, tmp_path)
    np.testing.assert_array_equal(make_dataset(SPEC, tmp_path).labels, drawn)


# The command line --------------------------------------------------------------------------------------------------

DATA = {f"data.{name}": getattr(SPEC, name) for name in ("count", "size", "alphabet", "shapes")}
SETTINGS = [f"--set={path}={value}" for path, value in {**DATA, "data.validation": 1, "data.test": 1}.items()]


def command_of(path: Path, kind: str) -> list[object]:
    """Return a command that reads a broken thing."""
    return {
        "ablations": ["show", path.stem],
        "archives": ["import", path],
        "datasets": ["data", "make", *SETTINGS, "--set", f"data.source={path.name}"],
        "models": ["predict", path, BROKEN / "pictures" / "nolabel.png"],
        "pictures": ["data", "import", path.parent, "--name", "letters"],
        "stores": ["status", "small", "--tracking-uri", f"sqlite:///{path}"],
        "studies": ["plan", path.stem],
    }[kind]


@pytest.mark.parametrize(
    "name",
    [
        "ablations/not_text.toml",
        "datasets/labels_as_a_pickle",
        "pictures/text_K.png",
        "studies/deeply_nested.toml",
        "archives/member_a_pickle.zip",
        "stores/tracking/of_optuna.db",
        "models/with_a_lambda_layer.keras",
    ],
)
def test_the_command_line_says_the_line_and_nothing_else(
    name: str, root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = put(name, root)
    code = call(*command_of(path, name.partition("/")[0]), "--root", root)
    out, error = capfd.readouterr()
    assert (code, out) == (2, ""), error
    assert "Traceback" not in error
    prefix, message = error[:11], error[11:].rstrip("\n")
    assert prefix == "stn-bench: "
    assert_line(message, name, path, root)


# What a broken file was once, and is no longer --------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted((SOUND / "archives").glob("*.zip")), ids=lambda path: path.stem)
def test_an_archive_of_another_days_settings_is_read(path: Path) -> None:
    (record,) = read_archive(path).records
    assert record.settings in ({"train.epochs": 0}, {"model.depth": 3})
