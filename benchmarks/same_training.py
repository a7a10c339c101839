"""Does today's training give the numbers of the one that it replaced, bit for bit?

    python benchmarks/same_training.py [REVISION] [--cells NAME ...] [--write]

Trains small cells with the code of a git revision and with today's, each in a process of its own, and compares every
metric, every variable of model and optimizer, and every file with numbers that a run keeps. Prints a line for each
cell, with the processor time of training as a ratio; exit code 1 if a number differs. With --write, and if none
differs, it writes the code of the revision that today's took the place of beside the subjects, and the digests of
today's: run keys of then count as long as those are as they are.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
SMALL = {
    "data.count": 230,
    "data.validation": 50,
    "data.test": 60,
    "data.size": 20,
    "data.alphabet": "ABCD",
    "model.width": 1 / 32,
    "optimizer.learning_rate": 0.01,
    "train.batch_size": 32,  # of 120: the last batch is smaller
    "train.epochs": 4,
}
PLAIN = {"model.transformer.kind": "none"}
CELLS: dict[str, dict[str, Any]] = {
    "transformer": {},
    "plain": PLAIN,
    "amsgrad": {"optimizer.name": "amsgrad", "model.dropout": 0.5, "optimizer.schedule": "cosine"},
    "momentum": {
        "optimizer.name": "sgd",
        "optimizer.momentum": 0.9,
        "optimizer.nesterov": True,
        "optimizer.warmup_epochs": 1.5,
    },
    "bfloat16": {"train.precision": "mixed_bfloat16"},
    "float16": {"train.precision": "mixed_float16", **PLAIN},
    "article": {
        "data.shapes": "varied",
        "data.correction.kind": "opencv",
        "model.input_range": "[-1,1]",
        "model.transformer.sampler": "article",
        "model.downsampling": "blur_pool",
        "model.norm.kind": "batch",
        "model.norm.position": "before",
        "model.activation": "gelu",
        "model.scores": "relu",
        "train.validation": "shuffled_cut",
    },
    "even": {"data.count": 206, **PLAIN},  # 96 pictures: each batch of 32 is whole
    "shared": {"model.transformer.shared_blocks": 2, "model.norm.affine": False, "train.batch_size": 120},
    "shrunk": {"model.transformer.shrink": 2, "model.dropout": 0.0, "model.downsampling": "max_pool"},
    "one epoch": {"train.epochs": 1, "model.norm.kind": "none"},
    "diverged": {},
    "resumed": {"model.dropout": 0.5, "train.epochs": 5},
    "started": {"optimizer.learning_rate": 0.001, "model.dropout": 0.4},
    "trial": {"train.epochs": 2},
    "large": {
        "data.count": 900,
        "data.validation": 200,
        "data.test": 300,
        "data.size": 60,
        "model.width": 1 / 8,
        "train.epochs": 5,
    },
}
STOPS = {"resumed": (1, 3), "tabular stopped": (5,), "series stopped": (1,)}
"""Cell -> the epochs behind which it is interrupted, and trained on by another process' first fit."""

STARTED = ("started", "diverged")
"""Cells that go on from the model of the cell `transformer`."""

USERS: dict[str, tuple[str, dict[str, Any]]] = {
    "tabular": ("tabular", {}),
    "tabular deep": ("tabular", {"hidden": "two", "loss": "mse"}),
    "tabular stopped": ("tabular", {}),
    "series": ("series", {"epochs": 3}),
    "series uneven": ("series", {"epochs": 3, "batch_size": 70}),
    "series stopped": ("series", {"epochs": 3}),
}
"""Cell -> the example whose `KerasModel` is trained, and its settings."""

TIMES = ("cost.seconds", "cost.cpu_seconds", "cost.step_ms", "cost.peak_memory_mb")


SUBJECTS = {
    "stn": (CELLS, "stn_bench.subjects.stn", "stn_bench/subjects/stn/former_code.json"),
    "KerasModel": (USERS, "stn_bench.subjects.keras_training", "stn_bench/subjects/keras_training/former_code.json"),
}
"""Kind of subject -> its cells, the package whose code was in its keys then, and the table of what was replaced."""

REVISION = "3b097f2"
"""The last one in which `stn` had a training of its own."""


# One side -----------------------------------------------------------------------------------------------------------


@dataclass
class Lent:
    """What a training is lent here; `log` interrupts it once behind each of some epochs."""

    root: Path
    data: Path
    stops: list[int]
    stop: Callable[[], None]
    start: Path | None = None
    is_trial: bool = False
    key: str = "key"
    told: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder, self.files = self.root / "folder", self.root / "files"
        self.folder.mkdir(parents=True)
        self.files.mkdir()

    def log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self.told.append([epoch, dict(metrics)])
        if self.stops and epoch >= self.stops[0]:
            self.stops.pop(0)
            self.stop()


def train_cell(name: str, folder: Path, data: Path) -> dict[str, Any]:
    """Train a cell, and return its numbers; arrays are kept in the cell's folder."""
    from stn_bench.system.errors import Interrupted

    def stop() -> None:
        raise Interrupted("stopped")

    subject, settings = cell(name)
    if subject.prepare:
        from stn_bench.subject import Lent as LentToSubject

        subject.prepare([settings], LentToSubject(data))
    run = Lent(folder, data, list(STOPS.get(name, ())), stop, start_of(name, folder), name == "trial")
    cpu = 0.0
    while True:
        began = time.process_time()
        try:
            outcome = subject.train(settings, 7, run)
            break
        except Interrupted:
            continue
        finally:
            cpu += time.process_time() - began
    np.savez(folder / "state.npz", **dict(outcome.state()))
    np.savez(folder / "examples.npz", **dict(outcome.examples))
    return {
        "metrics": {name: value for name, value in outcome.metrics.items() if name not in TIMES},
        "times": sorted(set(TIMES) & outcome.metrics.keys()),
        "history": outcome.history,
        "ending": [outcome.status, outcome.reason],
        "cost": repr(outcome.cost),
        "model": outcome.model and repr([outcome.model.inputs, outcome.model.outputs, outcome.model.requirements]),
        "told": run.told,
        "files": sorted(str(path.relative_to(folder)) for path in run.files.rglob("*")),
        "cpu": cpu,
        "trained": outcome.metrics.get("cost.cpu_seconds"),
    }


def start_of(name: str, folder: Path) -> Path | None:
    """Return the model that a cell goes on from; the one that diverges has weights that no float32 can multiply."""
    if name not in STARTED:
        return None
    start = folder.parent / "transformer" / "files" / "model.keras"
    if name == "started":
        return start
    from stn_bench.subjects.stn.nn.model_file import load_model, save_model

    model, config = load_model(start)
    model.set_weights(
        [np.full_like(array, 3e38) if array.dtype == np.float32 else array for array in model.get_weights()]
    )
    save_model(model, folder.with_suffix(".keras"), config)
    return folder.with_suffix(".keras")


def cell(name: str) -> tuple[Any, Any]:
    """Return the subject and the settings of a cell."""
    from stn_bench.subject import find_subject

    if name in USERS:
        example, changes = USERS[name]
        sys.path.insert(0, str(ROOT / "examples" / example))
        subject = find_subject(f"{example}:subject")
    else:
        subject, changes = find_subject("stn"), SMALL | CELLS[name]
    return subject, subject.read(changes).resolved()


def train_side(folder: Path, data: Path, names: list[str]) -> None:
    """Train cells in this process, with the code that its path leads to."""
    (folder / "code").write_text(json.dumps(code_of_side()))
    for name in names:
        (folder / f"{name}.json").write_text(json.dumps(train_cell(name, folder / name, data)))


# Its code -----------------------------------------------------------------------------------------------------------


def code_of_side() -> dict[str, Any]:
    """Return the code that the cells reach, by kind of subject: each definition by its forms, and what was reached."""
    from stn_bench.tracking import code
    from stn_bench.tracking.identity import _trail, identify

    found: dict[str, Any] = {}
    for kind, (cells, package, _) in SUBJECTS.items():
        reached: set[tuple[str, str]] = set()
        keys = []
        for name in cells:
            subject, settings = cell(name)
            flat = settings.flat()
            reached |= set(code._reached(_trail(subject, flat)))
            keys.append(identify(subject, flat, 1, "").code)
        modules = sorted({module for module, _ in reached if code.is_inside(module, (package,))})
        found[kind] = {
            "keys": keys,
            "reached": sorted(f"{module}:{name}" for module, name in reached),
            "modules": {module: definitions(module, package, sliced=kind == "stn") for module in modules},
        }
    return found


def definitions(module: str, package: str, *, sliced: bool) -> dict[str, Any]:
    """Return what a module imports, and every form of each of its definitions."""
    from stn_bench.tracking import code

    source = code._module(module)
    assert code.LOOSE not in source.definitions, module
    return {
        "imports": sorted(source.tops),
        "definitions": {
            name: {form: told(module, name, names, package) for form, names in forms(module, name, sliced=sliced)}
            for name in source.definitions
        },
    }


def forms(module: str, name: str, *, sliced: bool) -> list[tuple[str, frozenset[str] | None]]:
    """Return the forms of a definition: of a registry one for every choice among its entries."""
    from stn_bench.tracking import code

    if not sliced:
        return [("", None)]
    nodes, texts = code._module(module).definitions[name], code._texts(source_of(module), name)
    entries = sorted(
        text for text in texts for node in nodes if code._slice(node, frozenset({text}))[1] == f"[{text}]"
    )
    choices = [frozenset(some) for size in range(len(entries) + 1) for some in combinations(entries, size)]
    return [(code._read(source_of(module), name, names).entries, names) for names in choices]


def source_of(module: str) -> Any:
    """Return what the code of this side reads a definition from: the module's name at first, its source since then."""
    from stn_bench.tracking import code

    return module if "module" in inspect.signature(code._read).parameters else code._module(module)


def told(module: str, name: str, names: frozenset[str] | None, package: str) -> list[Any]:
    """Return the digest of a definition, and the definitions of the package that it names."""
    from stn_bench.tracking import code

    read = code._read(source_of(module), name, names)
    found = []
    for where, what in read.references:
        if code.is_inside(where, (package,)) and code.is_there(where):
            source = code._module(where)
            if what in source.definitions or source.elsewhere(what):
                found.append([where, what])
    return [read.digest, sorted(found)]


def write_tables(old: Mapping[str, Any], new: Mapping[str, Any], revision: str) -> None:
    """Write what was replaced of the code, and the digests of all that a key holds in its place."""
    for kind, (_, _, file) in SUBJECTS.items():
        then, today = old[kind], new[kind]
        replaced = {}
        for module, content in then["modules"].items():
            now = today["modules"].get(module, {"definitions": {}})["definitions"]
            reached = [one.partition(":")[2] for one in then["reached"] if one.partition(":")[0] == module]
            if any(content["definitions"].get(name) != now.get(name) for name in reached):
                replaced[module] = content
        replacements = {
            name: digest
            for before, after in zip(then["keys"], today["keys"], strict=True)
            for name, digest in after.items()
            if before.get(name) != digest
        }
        table = {
            "revision": revision,
            "extensions": kind != "stn",  # of a network of the user's own it counts other layers' FLOPs than then
            "modules": replaced,
            "replacements": dict(sorted(replacements.items())),
        }
        (ROOT / file).write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


# Both ---------------------------------------------------------------------------------------------------------------


def train_both(revision: str, names: list[str], scratch: Path) -> tuple[Path, Path]:
    """Return the folders of what the code of a revision and today's code trained, and of that code."""
    sides = {"old": unpacked(revision, scratch / "code"), "new": ROOT}
    errors = None if os.environ.get("SHOW_ERRORS") else subprocess.DEVNULL
    for side, code in sides.items():
        (scratch / side).mkdir()
        environment = {**os.environ, "PYTHONPATH": str(code), "PYTHONHASHSEED": "0", **quiet()}
        command = [sys.executable, __file__, revision, "--side", str(scratch / side), str(scratch / "data")]
        subprocess.run([*command, "--cells", *names], env=environment, cwd=scratch, check=True, stderr=errors)
    return scratch / "old", scratch / "new"


def unpacked(revision: str, folder: Path) -> Path:
    """Return a folder with the package of a revision."""
    folder.mkdir()
    packed = subprocess.run(
        ["git", "-C", str(ROOT), "archive", revision, "stn_bench"], check=True, stdout=subprocess.PIPE
    )
    subprocess.run(["tar", "-x", "-C", str(folder)], input=packed.stdout, check=True)
    return folder


def quiet() -> dict[str, str]:
    from stn_bench.system.machine import training_environment

    return training_environment(threads=1)


def differences(name: str, old: Path, new: Path) -> tuple[int, list[str]]:
    """Return how many numbers were compared, and the names of what differs in any bit."""
    before, after = (json.loads((side / f"{name}.json").read_text()) for side in (old, new))
    skipped = {"cpu", "trained", "times"}
    found = [part for part in sorted(before.keys() - skipped) if plain(before[part]) != plain(after[part])]
    count = len(before["metrics"]) + sum(map(len, before["history"].values()))
    for path in sorted(
        {file.relative_to(side / name) for side in (old, new) for file in side.glob(f"{name}/**/*.npz")}
    ):
        if path.parts[0] == "folder":
            continue  # the checkpoint has a form of its own
        with np.load(old / name / path) as one, np.load(new / name / path) as other:
            found += [f"{path}" for _ in [0] if sorted(one.files) != sorted(other.files)]
            for key in one.files:
                count += one[key].size
                same = one[key].dtype == other[key].dtype and one[key].tobytes() == other[key].tobytes()
                found += [] if same else [f"{path}:{key}"]
    return count, found


def plain(value: Any) -> str:
    """Return a value as text in which every digit shows, and not the order of a table."""
    return json.dumps(value, sort_keys=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision", nargs="?", default=REVISION, help=f"whose training was replaced ({REVISION})")
    parser.add_argument(
        "--write", action="store_true", help="write the tables of former code if all cells are the same"
    )
    parser.add_argument("--cells", nargs="+", default=[*CELLS, *USERS], help="all of them, if unset")
    parser.add_argument("--side", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        train_side(*map(Path, arguments.side), arguments.cells)
        return
    names = list(dict.fromkeys([*(["transformer"] if set(STARTED) & {*arguments.cells} else []), *arguments.cells]))
    print("| cell            | numbers | that differ | processor seconds of training, today / then |")
    print("|-----------------|---------|-------------|---------------------------------------------|")
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        old, new = train_both(arguments.revision, names, Path(scratch))
        for name in names:
            count, found = differences(name, old, new)
            times = [json.loads((side / f"{name}.json").read_text())["cpu"] for side in (new, old)]
            told = f"{times[0]:.1f} / {times[1]:.1f} = {times[0] / times[1]:.2f}"
            print(f"| {name:<15} | {count:>7,} | {len(found) or 'none':>11} | {told:<43} | {' '.join(found[:6])}")
            status = json.loads((new / f"{name}.json").read_text())["ending"][0]
            assert status == ("diverged" if name == "diverged" else "finished"), (name, status)
            failed = failed or bool(found)
        if arguments.write and not failed:
            write_tables(*(json.loads((side / "code").read_text()) for side in (old, new)), arguments.revision)
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
