"""The arguments of Python's door: what cannot be used is one line of ours, before anything is done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import stn_bench
from stn_bench.system.errors import StnBenchError

FRAME = pd.DataFrame(
    [(arm, seed, value + seed / 1000) for arm, value in (("base", 0.5), ("new", 0.6)) for seed in range(4)],
    columns=["method", "seed", "acc"],
)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: stn_bench.judge([1, 2]), "judge: `frame`: expected a DataFrame or a path, got [1, 2]"),
        (lambda: stn_bench.judge(None), "judge: `frame`: expected a DataFrame or a path, got None"),
        (lambda: stn_bench.judge(), "judge: missing a required argument: 'frame'"),
        (lambda: stn_bench.judge(FRAME.acc), "got a Series"),
        (lambda: stn_bench.judge(FRAME, metric=3), "judge: `metric`: expected text or a list of texts, got 3"),
        (lambda: stn_bench.judge(FRAME, margin="x"), "judge: `margin`: expected a number or "),
        (lambda: stn_bench.judge(FRAME, margin=True), "got True"),
        (lambda: stn_bench.judge(FRAME, bse="base"), "judge: no argument `bse`. Did you mean `base`?"),
        (lambda: stn_bench.judge(FRAME, wide="yes"), "judge: `wide`: expected True or False, got 'yes'"),
        (lambda: stn_bench.judge(FRAME, looks="3,5"), "judge: `looks`: expected a list of whole numbers, got '3,5'"),
        (lambda: stn_bench.judge(FRAME, direction="up"), "expected maximize or minimize, got `up`"),
        (lambda: stn_bench.run("waves", workers="one"), "run: `workers`: expected a whole number, got 'one'"),
        (lambda: stn_bench.run("waves", workers=True), "run: `workers`: expected a whole number, got True"),
        (lambda: stn_bench.run("waves", settings="rate=1"), "run: `settings`: expected a mapping"),
        (lambda: stn_bench.run("waves", True), "run: too many positional arguments"),
        (lambda: stn_bench.run(train), "run: `study`: expected text or a Study, got a function"),
        (lambda: stn_bench.results("waves", root=3), "results: `root`: expected a path, got 3"),
        (lambda: stn_bench.runs(None), "runs: `study`: expected text or a Study, got None"),
        (lambda: stn_bench.summary("waves", tracking_uri=1), "summary: `tracking_uri`: expected text, got 1"),
        (lambda: stn_bench.judge(FRAME).write(3), "Judged.write: `folder`: expected a path, got 3"),
        (lambda: stn_bench.judge(FRAME).write("x", formats=3), "Judged.write: `formats`: expected text or a list"),
    ],
)
def test_an_argument_that_cannot_be_used_is_refused_in_a_line(call: Callable[[], Any], said: str) -> None:
    with pytest.raises(StnBenchError) as caught:
        call()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def train(*, seed: int) -> dict[str, float]:
    raise NotImplementedError


def test_numbers_and_lists_of_numpy_will_do(tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text(FRAME.to_csv(index=False))
    found = stn_bench.judge(FRAME, margin=np.float64(0.01), looks=np.array([4]), max_failed=np.int64(0))
    assert found.summary.margin == 0.01
    assert stn_bench.judge(str(tmp_path / "results.csv"), metric=np.array(["acc"])).summary.metric == "acc"
