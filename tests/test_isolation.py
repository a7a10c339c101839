"""Isolation: what a training sets is not there for the next, however it ended, and the seed alone says what it draws.

A cell is compared alone and behind a polluting one. Keras and TensorFlow have a file of their own.
"""

from __future__ import annotations

import contextlib
import csv
import decimal
import gc
import importlib
import json
import locale
import logging
import multiprocessing
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import matplotlib as mpl
import mlflow.utils.autologging_utils
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from stn_bench import isolation
from stn_bench.isolation import isolated, watch_imports
from stn_bench.system.errors import Interrupted
from stn_bench.system.global_state import ASPECTS

POLLUTERS: dict[str, Callable[[], Any]] = {
    "environment": lambda: os.environ.update({"TF_ENABLE_ONEDNN_OPTS": "0", "TZ": "Asia/Tokyo"}),
    "missing": lambda: os.environ.pop("PATH"),
    "folder": lambda: os.chdir("/"),
    "umask": lambda: os.umask(0),
    "random": lambda: random.seed(99),
    "numpy's random": lambda: np.random.seed(99),  # noqa: NPY002
    "numpy's errors": lambda: np.seterr(all="raise", under="ignore"),
    "numpy's printing": lambda: np.set_printoptions(precision=1),
    "warnings": lambda: warnings.simplefilter("ignore"),
    "showwarning": lambda: setattr(warnings, "showwarning", print),
    "level": lambda: logging.getLogger().setLevel(1),
    "handler": lambda: logging.getLogger().addHandler(logging.NullHandler()),
    "disabled": lambda: logging.disable(logging.CRITICAL),
    "locale": lambda: locale.setlocale(locale.LC_ALL, "C"),
    "signal": lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN),
    "path": lambda: sys.path.insert(0, "/nowhere"),
    "argv": lambda: sys.argv.append("--surprise"),
    "stdout": lambda: setattr(sys, "stdout", sys.stderr),
    "recursion": lambda: sys.setrecursionlimit(5000),
    "collector": lambda: (gc.disable(), gc.set_threshold(7)),
    "decimal": lambda: decimal.getcontext().__setattr__("prec", 3),
    "start method": lambda: multiprocessing.set_start_method("spawn", force=True),
    "socket": lambda: socket.setdefaulttimeout(1.5),
    "temporary": lambda: setattr(tempfile, "tempdir", "/tmp"),
    "matplotlib": lambda: mpl.rcParams.update({"lines.linewidth": 9.0}),
    "pandas": lambda: pd.set_option("display.max_rows", 3),
    "numpy's generator": lambda: np.random.set_bit_generator(np.random.PCG64(5)),
    "trace": lambda: sys.settrace(lambda *_: None),
    "hooks": lambda: (setattr(sys, "unraisablehook", print), setattr(threading, "excepthook", print)),
    "limits": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (99, resource.getrlimit(resource.RLIMIT_NOFILE)[1])),
    "digits": lambda: sys.set_int_max_str_digits(0),
    "csv": lambda: csv.field_size_limit(9),
    "Pillow": lambda: setattr(importlib.import_module("PIL.ImageFile"), "LOAD_TRUNCATED_IMAGES", True),
    "OpenCV's threads": lambda: cv2.setNumThreads(3),
    "OpenCV's code": lambda: cv2.setUseOptimized(False),
    "OpenCV's random": lambda: cv2.setRNGSeed(99),
}


def seen() -> dict[str, Any]:
    """Return what a training could see of the global state, read by other ways than the package's."""
    return {
        "environment": dict(os.environ),
        "time": time.localtime(0).tm_hour,
        "folder": Path.cwd(),
        "drawn": (random.random(), float(np.random.rand()), cv2.randu(np.zeros(3, np.uint8), 0, 255).tolist()),  # noqa: NPY002
        "errors": np.geterr(),
        "printed": str(np.array([1 / 3])),
        "warnings": [str(one) for one in warnings.filters],
        "shown": warnings.showwarning,
        "logging": (logging.root.level, len(logging.root.handlers), logging.root.manager.disable),
        "locale": locale.localeconv(),
        "signal": signal.getsignal(signal.SIGUSR1),
        "sys": (list(sys.path), list(sys.argv), sys.stdout, sys.getrecursionlimit()),
        "collector": (gc.isenabled(), gc.get_threshold()),
        "decimal": str(decimal.Decimal(1) / 3),
        "start": multiprocessing.get_start_method(allow_none=True),
        "timeout": socket.getdefaulttimeout(),
        "temporary": tempfile.gettempdir(),
        "style": mpl.rcParams["lines.linewidth"],
        "rows": pd.get_option("display.max_rows"),
        "hooks": (sys.gettrace(), sys.unraisablehook, threading.excepthook),
        "limits": (resource.getrlimit(resource.RLIMIT_NOFILE), sys.get_int_max_str_digits(), csv.field_size_limit()),
        "Pillow": importlib.import_module("PIL.ImageFile").LOAD_TRUNCATED_IMAGES,
        "cv2": (cv2.getNumThreads(), cv2.useOptimized()),
    }


@pytest.fixture(autouse=True)
def _unwatched() -> Iterator[None]:
    """Leave the next file of tests Python's own finders."""
    yield
    sys.meta_path[:] = [one for one in sys.meta_path if not isinstance(one, isolation._Watcher)]


def alone() -> dict[str, Any]:
    with isolated(7):
        return seen()


@pytest.mark.parametrize("name", POLLUTERS)
@pytest.mark.parametrize("end", [None, ValueError, Interrupted, KeyboardInterrupt, SystemExit])
def test_a_cell_sees_the_same_alone_and_behind_a_polluting_one(name: str, end: type[BaseException] | None) -> None:
    expected = alone()
    with contextlib.suppress(end or ()), isolated(3):
        POLLUTERS[name]()
        if end:
            raise end("enough")
    assert alone() == expected


@settings(max_examples=8)
@given(some.lists(some.sampled_from(sorted(POLLUTERS)), max_size=6, unique=True), some.integers(0, 2**40))
def test_whatever_cells_set_and_in_whatever_order_the_next_sees_the_same(names: list[str], seed: int) -> None:
    expected, outside = alone(), {one.name: one.read() for one in ASPECTS}
    for name in names:
        with isolated(seed) as last:
            POLLUTERS[name]()
        assert last.residue == ()
    assert alone() == expected
    assert {one.name: one.read() for one in ASPECTS} == outside


def test_behind_a_training_that_makes_mlflow_log_by_itself_another_process_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    integrations: dict[str, Any] = {}
    monkeypatch.setattr(mlflow.utils.autologging_utils, "AUTOLOGGING_INTEGRATIONS", integrations)
    with isolated() as first:
        integrations["sklearn"] = {"disable": True}  # as it is once MLflow merely knows of it
    with isolated() as second:
        integrations["sklearn"] = {"log_models": True}
    assert (first.residue, second.residue) == ((), ("MLflow's autologging",))


@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**70])
def test_what_a_cell_draws_depends_on_its_seed_alone(seed: int) -> None:
    def drawn(seed: int) -> tuple[Any, ...]:
        with isolated(seed):
            return random.random(), np.random.rand(3).tolist()  # noqa: NPY002

    first = drawn(seed)
    random.seed(5)
    assert drawn(seed) == first != drawn(seed + 1)


def test_what_the_caller_draws_goes_on_where_it_was() -> None:
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    expected = random.Random(5).random(), np.random.RandomState(5).rand()
    with isolated(1):
        random.random()
    assert (random.random(), np.random.rand()) == expected  # noqa: NPY002


def test_a_folder_that_a_cell_removed_under_itself_is_no_trouble(tmp_path: Path) -> None:
    before = Path.cwd()
    with isolated():
        (tmp_path / "gone").mkdir()
        os.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()
    assert Path.cwd() == before


# Libraries and modules that a training is the first to load --------------------------------------------------------


def module(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, name, raising=False)


def test_a_cell_loads_no_library_that_it_does_not_use() -> None:
    code = (
        "import sys, json\nfrom stn_bench.isolation import isolated\n"
        "with isolated(1): pass\n"
        "print(json.dumps(sorted({'keras', 'tensorflow', 'jax', 'torch', 'cv2', 'matplotlib', 'pandas', 'mlflow'} "
        "& sys.modules.keys())))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_what_an_installed_library_sets_as_it_is_imported_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It will not do so again, and what the training itself set before is put back all the same."""
    monkeypatch.setattr(isolation, "is_own", lambda file: False)
    module(tmp_path, monkeypatch, "installed_sets", "import os\nos.environ['SET_BY_IMPORT'] = '1'\n")
    monkeypatch.delenv("SET_BY_IMPORT", raising=False)
    with isolated() as first:
        os.environ["SET_BY_CELL"] = "1"
        import installed_sets  # type: ignore[import-not-found]  # noqa: F401
    assert (os.environ.pop("SET_BY_IMPORT"), "SET_BY_CELL" in os.environ, first.residue) == ("1", False, ())


def test_a_module_that_makes_its_logger_asks_for_no_other_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Almost every module does; a worker that ended behind each would load its libraries anew for each run."""
    module(tmp_path, monkeypatch, "makes_a_logger", "import logging\nlog = logging.getLogger('makes.a.logger')\n")
    with isolated() as first:
        import makes_a_logger  # type: ignore[import-not-found]  # noqa: F401

        logging.getLogger("made.by.a.cell")
    assert first.residue == ()


def test_a_logger_that_was_as_new_is_put_back() -> None:
    log = logging.getLogger("known.before.a.cell")
    with isolated() as first:
        log.setLevel(logging.ERROR)
        log.propagate = False
    assert (log.level, log.propagate, first.residue) == (logging.NOTSET, True, ())


def test_a_module_of_ones_own_that_sets_something_as_it_is_imported_asks_for_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process it is imported: the next cell would not see what the first saw."""
    module(tmp_path, monkeypatch, "own_sets", "import numpy as np\nnp.seterr(over='raise')\n")
    told: list[Any] = []
    with isolated(1, told.extend) as first:
        import own_sets  # type: ignore[import-not-found]  # noqa: F401

        assert np.geterr()["over"] == "raise"
    assert np.geterr()["over"] == "warn"
    assert first.residue == tuple(told) == ("what the import of `own_sets` sets (numpy's errors)",)


def test_one_that_sets_nothing_does_not_whatever_the_cell_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module(tmp_path, monkeypatch, "own_quiet", "NUMBER = 3\n")
    with isolated() as first:
        np.seterr(over="raise")
        import own_quiet  # type: ignore[import-not-found]  # noqa: F401
    assert first.residue == ()


def test_what_a_module_draws_as_it_is_imported_is_the_same_whichever_cell_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = "import numpy as np\nDRAWN = np.random.rand()\n"
    (tmp_path / "own_drawing").mkdir()
    for file in ("__init__", "inner"):
        (tmp_path / f"own_drawing/{file}.py").write_text(package)
    monkeypatch.syspath_prepend(tmp_path)
    found = []
    for seed, imports in ((1, True), (2, True), (2, False)):
        with isolated(seed):
            if imports:
                for name in [one for one in sys.modules if one.startswith("own_drawing")]:
                    del sys.modules[name]
                import own_drawing.inner  # type: ignore[import-not-found]
            found.append((own_drawing.DRAWN, own_drawing.inner.DRAWN, np.random.rand()))  # noqa: NPY002
    assert found[0][:2] == found[1][:2]
    assert found[1] == found[2]


def test_a_library_is_imported_as_ever_while_it_is_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "installed_package/inner").mkdir(parents=True)
    (tmp_path / "installed_package/__init__.py").write_text("from importlib.resources import files\n")
    (tmp_path / "installed_package/inner/__init__.py").write_text("DEEP = 1\n")
    (tmp_path / "installed_package/data.txt").write_text("here")
    module(tmp_path, monkeypatch, "installed_broken", "raise RuntimeError('broken')\n")
    monkeypatch.setattr(isolation, "is_own", lambda file: False)
    watch_imports()
    with isolated():
        import installed_package  # type: ignore[import-not-found]
        import installed_package.inner  # type: ignore[import-not-found]

        for _ in range(2):
            with pytest.raises(RuntimeError, match="broken"):
                __import__("installed_broken")
    assert type(installed_package.__loader__).__name__ == "SourceFileLoader"
    assert installed_package.__spec__.loader is installed_package.__loader__
    assert installed_package.files("installed_package").joinpath("data.txt").read_text() == "here"
    assert installed_package.inner.DEEP == 1
