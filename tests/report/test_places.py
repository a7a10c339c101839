"""Where a report may be written: in place of nothing but an earlier report, and each metric in a folder of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from commands import call

import stn_bench
from stn_bench.report.build import FORMATS
from stn_bench.report.judging import JudgedTable
from stn_bench.report.places import MARKS, folder_names
from stn_bench.system.errors import DataError, ReportError

ROWS = "".join(
    f"{arm},{seed},{value + seed / 1000},{1 - value - seed / 900}\n"
    for arm, value in (("base", 0.5), ("new", 0.6))
    for seed in (1, 2, 3)
)
TABLE = "method,seed,acc,loss\n" + ROWS
NOTES = "Written by hand.\n"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def judged(shift: float = 0.0) -> JudgedTable:
    rows = [(arm, seed, 0.5 + shift + seed / 100) for arm in ("base", "new") for seed in (1, 2, 3)]
    return stn_bench.judge(pd.DataFrame(rows, columns=["method", "seed", "acc"]))


# What was there before -----------------------------------------------------------------------------------------------


def aside(folder: Path) -> Path:
    return folder / "runs.csv"


def linked(folder: Path) -> Path:
    (folder / "data").mkdir()
    (folder / "runs.csv").rename(folder / "data/mine.csv")
    (folder / "runs.csv").symlink_to(folder / "data/mine.csv")
    return folder / "data/mine.csv"


@pytest.mark.parametrize("place", [aside, linked])
@pytest.mark.parametrize("is_report", [True, False])
def test_a_table_is_not_replaced_by_its_own_report(
    place: Callable[[Path], Path],
    is_report: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if is_report:
        judged().write(tmp_path)
    (tmp_path / "runs.csv").write_text(TABLE)
    table, before = place(tmp_path), contents(tmp_path)
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path, "."):
        assert call("judge", os.path.relpath(table), "--metric", "acc", "-o", folder) == 2
        out, err = capsys.readouterr()
        assert not out
        assert "runs.csv: is the table that is judged, and the report would replace it; choose another folder" in err
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["report.md", "runs.csv", "report.json", "report.html", "tables.tex", "verdicts.csv"])
def test_a_file_that_is_no_reports_is_not_replaced(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "table.csv").write_text(TABLE)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text('{"study": 1}' if name == "report.json" else NOTES)
    before = contents(tmp_path)
    asked = ("--metric", "acc", "-o", tmp_path / "out", "--format", "md,html,tables,csv")
    assert call("judge", tmp_path / "table.csv", *asked) == 2
    out, err = capsys.readouterr()
    assert not out
    assert f"{name}: is there, and is no report's; move it, or choose another folder" in err
    assert contents(tmp_path) == before


@pytest.mark.parametrize("formats", ["md", "html", "latex", "tables", "csv", "md,html,pdf"])
def test_an_earlier_report_is_replaced(formats: str, tmp_path: Path) -> None:
    judged().write(tmp_path, formats)
    before = contents(tmp_path)
    judged(0.1).write(tmp_path, formats)
    assert contents(tmp_path).keys() == before.keys()
    assert contents(tmp_path) != before


def test_each_format_bears_the_mark_that_it_is_known_by(tmp_path: Path) -> None:
    judged().write(tmp_path, tuple(FORMATS))
    assert {path.name for path in tmp_path.iterdir()} == {*FORMATS.values(), "report.json", "runs.csv", "figures"}
    assert MARKS.keys() == {*FORMATS.values()} - {"report.md"}  # beside which `report.json` lies


def test_a_file_in_place_of_a_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "out").write_text(NOTES)
    with pytest.raises(ReportError, match="out: expected a folder, or nothing yet, got a file"):
        judged().write(tmp_path / "out")


# Several metrics -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["figures/mine.png", "report.md"])
def test_no_report_is_written_where_one_of_several_cannot_be(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "table.csv").write_text(TABLE)
    mine = tmp_path / "out/loss" / name
    mine.parent.mkdir(parents=True)
    mine.write_text(NOTES)
    before = contents(tmp_path)
    asked = ("--metric", "acc", "--metric", "loss", "--direction", "loss=minimize", "-o", tmp_path / "out")
    assert call("judge", tmp_path / "table.csv", *asked) == 2
    out, err = capsys.readouterr()
    assert not out
    assert "choose another folder" in err
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("metrics", "names"),
    [
        (("acc", "test.loss"), ["acc", "test_loss"]),
        (("acc@1", "acc_1", "acc 1"), ["acc_1", "acc_1__2", "acc_1__3"]),
        (("精度", "再現率"), ["metric", "metric__2"]),
        (("Acc", "acc"), ["Acc", "acc__2"]),
        (("acc", "acc", "acc__2"), ["acc", "acc__2", "acc__2__2"]),
        (("con", "NUL"), ["of_con", "of_NUL"]),
        (("x" * 300, "x" * 301), ["x" * 60, "x" * 60 + "__2"]),
    ],
)
def test_each_metric_has_a_folder_of_its_own(metrics: tuple[str, ...], names: list[str]) -> None:
    assert folder_names(metrics) == names


def test_metrics_of_like_names_are_written_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "table.csv").write_text(TABLE.replace("acc,loss", "acc@1,acc_1"))
    asked = ("--metric", "acc@1", "--metric", "acc_1", "-o", tmp_path / "out")
    assert call("judge", tmp_path / "table.csv", *asked) == 0
    out = capsys.readouterr().out
    for name, metric in (("acc_1", "acc@1"), ("acc_1__2", "acc_1")):
        assert f"report: {tmp_path / 'out' / name / 'report.md'}" in out
        assert f'"metric": "{metric}"' in (tmp_path / "out" / name / "report.json").read_text()


def test_a_metric_that_is_named_twice_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "table.csv").write_text(TABLE.replace("acc,loss", "acc,metrics.acc"))
    for other in ("acc", "metrics.acc"):
        assert call("judge", tmp_path / "table.csv", "--metric", "acc", "--metric", other) == 2
        out, err = capsys.readouterr()
        assert not out
        assert "table.csv: --metric: expected each metric once, got `acc` 2 times" in err
    with pytest.raises(DataError, match="`metric`: expected each metric once"):
        stn_bench.judge(tmp_path / "table.csv", metric=["acc", "acc"])
