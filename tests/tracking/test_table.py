"""Tables of anybody's runs: what is understood of them, and in which line what is not is refused."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import random
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stn_bench.report.frames import to_csv
from stn_bench.report.judging import Judged, Request, judge
from stn_bench.system.errors import DataError
from stn_bench.tracking.columns import Columns, find_columns
from stn_bench.tracking.reading import read_runs
from stn_bench.tracking.table import Sheet, from_frame, read_file

HEAD = "method,seed,acc\n"
BASE = "baseline,1,0.50\nbaseline,2,0.52\nbaseline,3,0.51\n"
MIXUP = "mixup,1,0.60\nmixup,2,0.63\nmixup,3,0.61\n"
SOUND = HEAD + BASE + MIXUP


def table(folder: Path, text: str | bytes) -> Sheet:
    path = folder / "results.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_file(path)


def zip_of(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in names:
            file.writestr(name, SOUND)
    return buffer.getvalue()


def judged(found: Sheet, asked: Columns = Columns(), **request: Any) -> Judged:  # noqa: B008
    return judge(found, asked, Request(**request))


def arms(found: Judged, question: int = 0) -> dict[str, Any]:
    return {arm.name: arm for arm in found.summary.ablations[question].arms}


def runs_of(found: Sheet, asked: Columns = Columns()) -> set[tuple[str, int, float]]:  # noqa: B008
    return {(run.arm, run.seed, run.metrics["acc"]) for run in read_runs(found, asked)[0]}


PLAIN = {("baseline", 1, 0.5), ("baseline", 2, 0.52), ("baseline", 3, 0.51)} | {
    ("mixup", 1, 0.6),
    ("mixup", 2, 0.63),
    ("mixup", 3, 0.61),
}


# What is understood --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        SOUND,
        "\ufeff" + SOUND,
        SOUND.replace("\n", "\r\n"),
        "\ufeff" + SOUND.replace("\n", "\r"),
        SOUND.replace(",", ";"),
        SOUND.replace(",", "\t"),
        SOUND.replace(",", "|"),
        SOUND.replace(",", ";").replace("0.", "0,"),
        SOUND.replace(",", "\t").replace("0.", "0,"),
        SOUND.replace(",", " , "),
        SOUND.replace("baseline", '"baseline"'),
        SOUND.replace("\nmixup", "\n\nmixup", 1) + "\n\n",
        SOUND.replace(",1,", ",1.0,"),
        SOUND.encode("utf-16"),
        ("\ufeff" + SOUND).encode("utf-16-be"),
        "sep=;\r\n" + SOUND.replace(",", ";"),
        "sep=:\n" + SOUND.replace(",", ":"),
        "\n\r\n,,\n" + SOUND,
        "".join(f"{number},{line}\n" for number, line in zip(("", *range(6)), SOUND.splitlines(), strict=True)),
    ],
    ids=[
        *("plain", "bom", "crlf", "cr", "semicolons", "tabs", "bars", "commas", "tabs and commas", "spaces", "quotes"),
        *("blank lines", "floats", "utf-16", "utf-16-be", "sep", "sep colon", "blank rows first", "pandas index"),
    ],
)
def test_a_table_reads_the_same_however_it_was_written(text: str | bytes, tmp_path: Path) -> None:
    assert runs_of(table(tmp_path, text)) == PLAIN


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("method,seed,acc", ("method", "seed", "acc")),
        ("Model,Random Seed,acc", ("Model", "Random Seed", "acc")),
        ("who,fold,acc", ("who", "fold", "acc")),  # the only column of text
        ("arm,trial,acc", ("arm", "trial", "acc")),
    ],
)
def test_plain_columns_are_guessed(header: str, expected: tuple[str, str, str], tmp_path: Path) -> None:
    found = find_columns(table(tmp_path, SOUND.replace("method,seed,acc", header)), Columns())
    assert (found.arm, found.seed, *found.metrics) == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('method,seed,"acc\n(%)"', ("method", "seed", "acc (%)")),
        ('"method\nname",seed,acc', ("method name", "seed", "acc")),
        ('method,seed,"acc; top;\n1; or 2; or 3"', ("method", "seed", "acc; top; 1; or 2; or 3")),
        ('method," seed  no. ",acc', ("method", "seed no.", "acc")),
        ("method,seed,top`1", ("method", "seed", "top'1")),
    ],
)
def test_a_header_is_a_record_of_csv(header: str, expected: tuple[str, str, str], tmp_path: Path) -> None:
    found = table(tmp_path, SOUND.replace("method,seed,acc", header))
    assert tuple(found.names) == expected
    assert found.at(0) == "row 2"
    asked = Columns(*next(csv.reader(io.StringIO(header)))[:2], metrics=(next(csv.reader(io.StringIO(header)))[2],))
    told = judged(found, asked).columns
    assert (told.arm, told.seed, *told.metrics) == expected


@given(st.text("\"',;\t|\n\r ab1.\\#=sep\x0b\0", max_size=40))
@settings(derandomize=True, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_a_table_or_refused(tmp_path: Path, text: str) -> None:
    with contextlib.suppress(DataError):
        table(tmp_path, text)


def test_a_table_of_ours_is_read_as_what_it_is(tmp_path: Path) -> None:
    again = judged(table(tmp_path, to_csv(judged(table(tmp_path, SOUND)).runs)))
    assert (again.columns.arm, again.columns.seed, again.columns.metrics) == ("arm", "seed", ("acc",))
    assert arms(again)["mixup"].interval == arms(judged(table(tmp_path, SOUND)))["mixup"].interval


def test_of_a_table_of_ours_with_several_questions_each_is_judged_again(tmp_path: Path) -> None:
    found = judged(from_frame(long(DATASETS, "dataset", "arm")))
    again = judged(table(tmp_path, to_csv(found.runs)))
    assert len(again.summary.ablations) == len(found.summary.ablations) == 3
    for place in range(3):
        assert arms(again, place)["mixup"].p_adjusted == pytest.approx(arms(found, place)["mixup"].p_adjusted)


OURS = "study,ablation,arm,phase,seed,trial,status,run_key,run_id,model.width,train.seed,test.score,test.loss\n"


def test_of_a_table_of_ours_tuning_is_left_out_and_no_setting_is_a_metric(tmp_path: Path) -> None:
    rows = [
        f"s,{arm},{arm},{phase},{seed},,finished,k,r,{width},7,0.{width}{seed},{seed}\n"
        for arm, width in (("base", 5), ("wide", 7))
        for phase, seed in [("tune", 1), ("verdict", 1), ("verdict", 2), ("verdict", 3), ("confirm", 9)]
    ]
    found = table(tmp_path, OURS + "".join(rows))
    with pytest.raises(DataError, match=r"--metric COLUMN; one of test\.score, test\.loss"):
        judged(found)
    told = judged(found, Columns(metrics=("test.score",)))
    assert "4 runs of tuning and confirmation left out" in told.notes
    assert arms(told)["wide"].seeds == (1, 2, 3)


@pytest.mark.parametrize("base", ["base", "Baseline", "control", "reference"])
def test_a_base_that_is_called_so_is_found(base: str, tmp_path: Path) -> None:
    found = judged(table(tmp_path, SOUND.replace("baseline", base)))
    assert found.columns.base == base
    assert found.summary.base == {"method": base}


def test_a_wide_table_says_what_a_long_one_says(tmp_path: Path) -> None:
    wide = judged(table(tmp_path, "seed,baseline,mixup\n1,0.50,0.60\n2,0.52,0.63\n3,0.51,0.61\n"))
    long = judged(table(tmp_path, SOUND))
    assert wide.columns.wide
    for name, arm in arms(wide).items():
        assert arm.values == arms(long)[name].values
        assert (arm.verdict, arm.interval, arm.p) == (
            arms(long)[name].verdict,
            arms(long)[name].interval,
            arms(long)[name].p,
        )


def test_the_order_of_the_rows_changes_nothing(tmp_path: Path) -> None:
    rows = (BASE + MIXUP + BASE.replace("baseline", "third").replace("0.5", "0.4")).splitlines()
    found = []
    for shuffle in range(3):
        random.Random(shuffle).shuffle(rows)
        one = arms(judged(table(tmp_path, HEAD + "\n".join(rows)), Columns(base="baseline")))
        found.append({name: (arm.mean, arm.difference, arm.p_adjusted, arm.verdict) for name, arm in one.items()})
    assert found[0] == found[1] == found[2]


def test_seeds_that_are_no_numbers_are_numbered_and_said(tmp_path: Path) -> None:
    found = judged(table(tmp_path, SOUND.replace(",1,", ",a,").replace(",2,", ",-7,").replace(",3,", ",c,")))
    assert arms(found)["mixup"].seeds == (1, 2, 3)
    assert "seeds are numbered: 1 = a, 2 = -7 and 3 = c" in found.notes


@pytest.mark.parametrize(("first", "second"), [("1", "01"), ("1.0", "1"), ("1e3", "1000"), ("-7", "-7.0")])
def test_a_seed_is_its_number_however_it_is_written(first: str, second: str, tmp_path: Path) -> None:
    again = SOUND.replace(",1,", f",{first},") + f"mixup,{second},0.1\n"
    with pytest.raises(DataError, match=r"`mixup` has seed -?\d+ in 2 rows \(row 5 and row 8\)"):
        judged(table(tmp_path, again))
    wide = f"seed,baseline,mixup\n{first},0.5,0.6\n2,0.5,0.6\n{second},0.5,0.6\n"
    with pytest.raises(DataError, match=r"has seed -?\d+ in 2 rows \(row 2 and row 4\)"):
        judged(table(tmp_path, wide))


def test_seeds_that_are_written_differently_pair_and_nothing_else_is_said(tmp_path: Path) -> None:
    text = HEAD + BASE.replace(",1,", ",1.0,").replace(",2,", ",2.0,").replace(",3,", ",03,") + MIXUP
    found = judged(table(tmp_path, text))
    assert (arms(found)["mixup"].pairs, found.notes) == (3, ())
    named = judged(table(tmp_path, text.replace(",1.0,", ",0.50,").replace("mixup,1,", "mixup,.5,")))
    assert (arms(named)["mixup"].pairs, named.notes) == (3, ("seeds are numbered: 1 = 0.5, 2 = 2 and 3 = 3",))


@pytest.mark.parametrize(("seed", "is_kept"), [("2147483647", True), ("2147483648", False), ("7" * 5000, False)])
def test_a_seed_may_be_any_number(seed: str, is_kept: bool, tmp_path: Path) -> None:
    found = judged(table(tmp_path, SOUND.replace(",1,", f",{seed},")))
    assert arms(found)["mixup"].pairs == 3
    assert ("seeds are numbered" in " ".join(found.notes)) != is_kept


def test_seed_1000_is_as_good_as_any(tmp_path: Path) -> None:
    assert arms(judged(table(tmp_path, SOUND.replace(",1,", ",1000,"))))["mixup"].verdict == "better"


def test_an_arm_may_be_called_as_the_harness_calls_the_base(tmp_path: Path) -> None:
    text = SOUND + BASE.replace("baseline", "base").replace("0.5", "0.4")
    found = arms(judged(table(tmp_path, text), Columns(base="baseline")))
    assert list(found) == ["base", "mixup", "base (arm)"]
    assert (found["base"].mean, found["base (arm)"].mean) == (pytest.approx(0.51), pytest.approx(0.41))


@pytest.mark.parametrize("base", ["baseline", "base"])
def test_an_arm_may_be_called_as_the_harness_calls_one_called_base(base: str, tmp_path: Path) -> None:
    text = SOUND + BASE.replace("baseline", "base").replace("0.5", "0.4")
    text += BASE.replace("baseline", "base (arm)").replace("0.5", "0.3")
    found = judged(table(tmp_path, text), Columns(base=base))
    told = {arm.called or arm.name: arm.mean for arm in found.summary.ablations[0].arms}
    expected = {"baseline": 0.51, "mixup": 1.84 / 3, "base": 0.41, "base (arm)": 0.31}
    assert told == pytest.approx(expected)
    assert set(found.runs["arm"]) == set(expected)


# What is missing or failed -------------------------------------------------------------------------------------------


def test_missing_pairs_are_said_and_the_others_judged(tmp_path: Path) -> None:
    found = judged(table(tmp_path, SOUND + "baseline,4,0.5\nmixup,9,0.7\n"))
    (note,) = found.notes
    assert note.startswith("pairs are missing: ")
    assert note.endswith("; judged on the pairs that are there")
    assert "`mixup` lacks seed 4" in note
    assert "`baseline` lacks, beside `mixup`, seed 9" in note
    mixup = arms(found)["mixup"]
    assert (mixup.pairs, mixup.planned, mixup.verdict) == (3, 5, "better")


@pytest.mark.parametrize(
    ("cell", "why"), [("nan", "diverged: nan"), ("inf", "diverged: inf"), ("", "crashed: no value")]
)
def test_a_run_without_a_number_is_a_seed_that_failed(cell: str, why: str, tmp_path: Path) -> None:
    text = SOUND + f"baseline,4,0.5\nmixup,4,{cell}\n"
    mixup = arms(judged(table(tmp_path, text)))["mixup"]
    assert (mixup.verdict, mixup.reason) == ("invalid", "1 of 4 seeds of `mixup` failed")
    assert mixup.failed == {4: why}
    assert arms(judged(table(tmp_path, text), max_failed=1))["mixup"].verdict == "better"


@pytest.mark.parametrize("value", ["9e299", "-1.5e308"])
def test_a_number_too_large_is_told_as_such(value: str, tmp_path: Path) -> None:
    found = judged(table(tmp_path, SOUND + f"baseline,4,0.5\nmixup,4,{value}\n"))
    told = f"1 run has a value beyond 1e150 and failed: `mixup` on seed 4 ({value}); rescale the metric to judge such"
    assert found.notes == (f"{told} values",)
    assert arms(found)["mixup"].failed == {4: f"diverged: {value}, beyond 1e150"}
    data = "\n".join(f"{data},{row}" for data in "ab" for row in (BASE + MIXUP + f"mixup,4,{value}").splitlines())
    over_all = arms(judged(table(tmp_path, "dataset," + HEAD + data + "\nb,baseline,4,0.5\n")), 2)["mixup"]
    assert over_all.failed == {4: f"diverged: {value}, beyond 1e150 on b"}


@pytest.mark.parametrize("arm", ["baseline", "base", "mixup"])
def test_the_arm_that_failed_is_blamed_by_its_own_name(arm: str, tmp_path: Path) -> None:
    text = SOUND + BASE.replace("baseline", "base") + "baseline,4,0.5\nbase,4,0.5\nmixup,4,0.6\n"
    broken = re.sub(rf"(?m)^{arm},2,.*$", f"{arm},2,nan", text)
    found = judged(table(tmp_path, broken), Columns(base="baseline"))
    reasons = {one.called or one.name: one.reason for one in found.summary.ablations[0].arms[1:]}
    failed = f"1 of 4 seeds of `{arm}` failed"
    expected = {one: failed if arm in (one, "baseline") else "" for one in ("mixup", "base")}
    assert reasons == expected


def test_two_seeds_are_no_replication(tmp_path: Path) -> None:
    text = HEAD + "".join(line for line in (BASE + MIXUP).splitlines(keepends=True) if ",3," not in line)
    assert arms(judged(table(tmp_path, text)))["mixup"].verdict == "unreplicated"


# Questions and data sets ---------------------------------------------------------------------------------------------


def long(values: Mapping[tuple[str, ...], Sequence[float]], *names: str) -> pd.DataFrame:
    """Return one row for each value, on seeds from 1, with the keys as columns."""
    rows = [(*key, seed, value) for key, series in values.items() for seed, value in enumerate(series, start=1)]
    return pd.DataFrame(rows, columns=[*names, "seed", "acc"])


def test_each_question_has_its_own_family_and_shares_what_has_none() -> None:
    values = {
        ("", "base"): (0.5, 0.52, 0.51),
        ("depth", "deep"): (0.6, 0.63, 0.61),
        ("width", "wide"): (0.5, 0.53, 0.51),
        ("width", "slim"): (0.4, 0.43, 0.41),
    }
    found = judged(from_frame(long(values, "question", "arm")), Columns(question="question"))
    assert [one.title for one in found.summary.ablations] == ["depth", "width"]
    assert [list(arms(found, place)) for place in (0, 1)] == [["base", "deep"], ["base", "wide", "slim"]]
    alone = judged(
        from_frame(long({k: v for k, v in values.items() if k[0] != "width"}, "q", "arm")), Columns(arm="arm")
    )
    assert arms(found)["deep"].p_adjusted == arms(alone)["deep"].p_adjusted


@pytest.mark.parametrize("is_first", [True, False])
def test_a_questions_own_row_goes_before_one_of_none_wherever_it_stands(is_first: bool) -> None:
    shared = {("", "base"): (0.5, 0.52, 0.51)}
    others = {("depth", "deep"): (0.6, 0.63, 0.61), ("width", "wide"): (0.5, 0.53, 0.51)}
    own = {("width", "base"): (0.4, 0.42, 0.41)}
    values = {**own, **shared, **others} if is_first else {**others, **shared, **own}
    found = judged(from_frame(long(values, "question", "arm")), Columns(question="question"))
    means = {one.title: one.arm("base").mean for one in found.summary.ablations}
    assert means == pytest.approx({"depth": 0.51, "width": 0.41})
    assert found.notes == ("a question's own row goes before one of no question: `base` in width (3 rows)",)


DATASETS = {
    ("cifar", "base"): (0.90, 0.92, 0.91, 0.93),
    ("cifar", "mixup"): (0.92, 0.93, 0.935, 0.95),
    ("svhn", "base"): (0.50, 0.53, 0.51, 0.50),
    ("svhn", "mixup"): (0.55, 0.56, 0.57, 0.58),
}


def test_over_all_data_sets_a_seed_is_its_mean_over_them() -> None:
    found = judged(from_frame(long(DATASETS, "dataset", "arm")))
    assert [one.title for one in found.summary.ablations] == ["cifar", "svhn", "All data sets"]
    means = {
        arm: tuple((a + b) / 2 for a, b in zip(DATASETS["cifar", arm], DATASETS["svhn", arm], strict=True))
        for arm in ("base", "mixup")
    }
    alone = judged(from_frame(long({(arm,): series for arm, series in means.items()}, "arm")))
    over_all, expected = arms(found, 2)["mixup"], arms(alone)["mixup"]
    assert over_all.values == pytest.approx(expected.values)
    assert (over_all.p, *over_all.interval) == pytest.approx((expected.p, *expected.interval))


def test_where_data_sets_share_no_seeds_pairs_are_of_data_set_and_seed() -> None:
    frame = long(DATASETS, "dataset", "arm")
    frame["seed"] = [f"{dataset}{seed}" for dataset, seed in zip(frame.dataset, frame.seed, strict=True)]
    found = judged(from_frame(frame))
    assert "over all, pairs are of data set and seed" in found.notes[-1]
    pairs = [b - a for d in ("cifar", "svhn") for a, b in zip(DATASETS[d, "base"], DATASETS[d, "mixup"], strict=True)]
    over_all, cifar = arms(found, 2)["mixup"], arms(found)["mixup"]
    assert (over_all.pairs, over_all.difference) == (8, pytest.approx(np.mean(pairs)))
    assert over_all.seed_se == pytest.approx(np.std(pairs, ddof=1) / 8**0.5)
    assert (cifar.pairs, cifar.planned, cifar.difference) == (4, 4, pytest.approx(np.mean(pairs[:4])))


def test_a_data_set_that_lacks_a_seed_takes_it_out_of_the_mean(tmp_path: Path) -> None:
    frame = long(DATASETS, "dataset", "arm").drop(index=[7])  # mixup on cifar, seed 4
    frame.loc[frame.index[-1], "acc"] = np.nan  # and svhn's failed
    found = judged(from_frame(frame))
    assert arms(found, 2)["mixup"].seeds == (1, 2, 3)
    assert not arms(found, 2)["mixup"].failed


def test_where_a_pair_is_missing_its_data_set_is_named() -> None:
    crossed = judged(from_frame(long(DATASETS, "dataset", "arm").drop(index=[7])))  # mixup on cifar, seed 4
    told = "pairs are missing: `mixup` lacks seed 4 on cifar; judged on the pairs that are there"
    assert crossed.notes[-1] == told
    frame = long(DATASETS, "dataset", "arm").drop(index=[15])  # mixup on svhn, seed 4
    frame["seed"] += 10 * (frame["dataset"] == "svhn")
    assert judged(from_frame(frame)).notes[-1] == told.replace("4 on cifar", "14 on svhn")
    frame.loc[14, "acc"] = np.nan
    assert "failed: `mixup` on seed 13 on svhn (no value)" in judged(from_frame(frame)).notes[-1]


@pytest.mark.parametrize(
    ("apart", "became"), [(0, "left out over all"), (10, "over all, they are compared where they are")]
)
def test_an_arm_that_is_not_on_every_data_set_is_named(apart: int, became: str) -> None:
    frame = long({**DATASETS, ("cifar", "cutout"): (0.91, 0.92, 0.93, 0.94)}, "dataset", "arm")
    frame["seed"] += apart * (frame["dataset"] == "svhn")
    found = judged(from_frame(frame))
    assert f"`cutout` is not on every data set: {became}" in found.notes
    assert ("cutout" in arms(found, 2)) == bool(apart)


def test_an_arm_without_a_seed_on_every_data_set_is_named() -> None:
    frame = long({**DATASETS, ("cifar", "c"): (0.9, 0.9), ("svhn", "c"): (0, 0, 0.5, 0.5)}, "dataset", "arm")
    found = judged(from_frame(frame.drop(index=[18, 19])))
    assert "`c` has no seed on every data set: left out over all" in found.notes


def test_a_base_without_a_seed_on_every_data_set_is_told_so() -> None:
    frame = long(DATASETS, "dataset", "arm").drop(index=[0, 1, 10, 11])
    with pytest.raises(DataError, match="All data sets: no seed on every data set is one of the base `base`"):
        judged(from_frame(frame))


def test_a_data_set_may_be_called_as_all_of_them_are() -> None:
    frame = long(DATASETS, "dataset", "arm").replace({"dataset": {"svhn": "all data sets"}})
    frame.loc[frame.index[-1], "acc"] = np.nan
    found = judged(from_frame(frame))
    assert [one.title for one in found.summary.ablations] == ["cifar", "all data sets", "All data sets (2)"]
    assert found.notes[-1] == ("1 run has no finite value and failed: `mixup` on seed 4 on all data sets (no value)")
    assert set(found.runs["given.dataset"]) == {"cifar", "all data sets", "All data sets (2)"}


# What is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "asked", "said"),
    [
        ("", {}, "is empty"),
        (" \n\n", {}, "is empty"),
        (HEAD, {}, "has a header and no row"),
        (
            SOUND.replace("\n", ",1\n").replace("acc,1", "acc,acc"),
            {"metrics": ("acc",)},
            "--metric: no column `acc`. Did you mean `acc (",
        ),
        (b"method,seed,acc\nb\xe4se,1,0.5\n", {}, "expected a table as text in UTF-8, got another byte at 17"),
        (SOUND, {"arm": "metod"}, "--arm: no column `metod`. Did you mean `method`?"),
        (SOUND, {"metrics": ("f1",)}, "--metric: no column `f1`. Columns: method, seed, acc"),
        (
            SOUND.replace("seed", "when"),
            {},
            "no column tells which runs of two arms are a pair, such as seed, fold or run; name it with --seed",
        ),
        (
            SOUND.replace("seed,acc", "run,fold,acc").replace("0.", "1,0."),
            {},
            "which column is the seed is not plain; say it with --seed COLUMN; one of run, fold?",
        ),
        (SOUND.replace("acc", "acc,f1").replace("0.", "1,0."), {}, "which column is the metric is not plain"),
        (SOUND.replace("baseline", "resnet"), {}, "which arm is the base is not plain; say it with --base NAME"),
        (SOUND, {"base": "basline"}, "no arm `basline` to be the base. Did you mean `baseline`?"),
        (HEAD + BASE, {}, "one arm only, `baseline`"),
        (SOUND + "mixup,2,0.6\n", {}, "`mixup` has seed 2 in 2 rows (row 6 and row 8), expected one"),
        (SOUND + "mixup,4,good\nmixup,5,bad\n", {}, "row 8: `acc`: expected a number, got `good` (and 1 more)"),
        (SOUND + 'mixup,4,"0,6"\n', {}, "row 8: `acc`: expected a number, got `0,6`; a comma is a decimal point only"),
        (SOUND.replace("0.", "0,"), {}, "row 2: expected 3 cells, got 4; where commas are decimal points"),
        ("\n\n" + SOUND + "mixup,4,0.6,0.7\n", {}, "row 10: expected 3 cells, got 4"),
        ("\n \n,,\n" + SOUND + "mixup,4,good\n", {}, "row 11: `acc`: expected a number, got `good`"),
        (SOUND + '"mixup,4,0.6\nmixup,5,0.6\n', {}, "row 8: a quote opens a cell there and none closes it; close it"),
        ("\n" + SOUND + 'mixup,"4,0.6\n', {}, "row 9: a quote opens a cell there"),
        ('"' + SOUND, {}, "row 1: a quote opens a cell there"),
        ('method,"a\nb",acc\n"x\ny",1,0.5,7\n', {}, "row 2: expected 3 cells, got 4"),
        ("sep=;\n", {}, "is empty"),
        (SOUND.encode("utf-16-le"), {}, "is text in UTF-32, or in UTF-16 without its mark; save it as UTF-8"),
        (SOUND.encode("utf-32"), {}, "is text in UTF-32, or in UTF-16 without its mark; save it as UTF-8"),
        (gzip.compress(SOUND.encode(), mtime=0), {}, "is compressed by gzip; unpack it first"),
        (zip_of("results.csv"), {}, "is a zip file; unpack it first"),
        (zip_of("manifest.json", "records.jsonl"), {}, "read one of stn-bench with `stn-bench import`"),
        (zip_of("[Content_Types].xml", "xl/workbook.xml"), {}, "is a workbook of a spreadsheet; save its sheet"),
        (b"PK\x03\x04cut", {}, "is a zip file; unpack it first"),
        (SOUND + "mixup,4,0.6,0.7\n", {}, "row 8: expected 3 cells, got 4"),
        (SOUND + ",4,0.6\n", {}, "row 8: `method`: expected the name of the arm, got nothing"),
        (
            SOUND.replace("\n", ",a\n").replace("acc,a", "acc,data") + "mixup,4,0.6,\n",
            {"dataset": "data"},
            "row 8: `data`: expected the name of the data set, got nothing",
        ),
        (SOUND + "mixup,,0.6\n", {}, "row 8: `seed`: expected the name of the seed, got nothing"),
        (SOUND + "mix\x1b[2Jup,4,0.6\n", {}, "row 8: a name holds U+001B"),
        (SOUND.replace("acc", "a\u202ecc"), {}, "holds a character that cannot be seen"),
        ("seed,base,x\n1,0.5,oops\n2,0.5,0.6\n", {"wide": True}, "row 2: `x`: expected a number, got `oops`"),
        ("seed,base,x\n1,0.5,0.6\n", {"wide": True, "arm": "x"}, "--wide and --arm: in a wide table each arm is a"),
    ],
)
def test_what_cannot_be_read_is_told_in_a_line(
    text: str | bytes, asked: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as caught:
        judged(table(tmp_path, text), Columns(**asked))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "results.csv" in str(caught.value)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv: no such file"):
        read_file(tmp_path / "none.csv")
    with pytest.raises(DataError, match="cannot be read"):
        read_file(tmp_path)


# Terms ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["loss", "test_loss", "val.error", "MAE", "rmse", "perplexity", "time"])
def test_of_a_metric_that_sounds_like_a_loss_the_direction_is_asked(name: str, tmp_path: Path) -> None:
    found = table(tmp_path, SOUND.replace("acc", name))
    with pytest.raises(DataError, match=f"is less of `{name}` better"):
        judged(found)
    assert arms(judged(found, direction=("minimize",)))["mixup"].verdict == "worse"


def test_fractions_have_a_margin_and_other_numbers_none(tmp_path: Path) -> None:
    fraction = judged(table(tmp_path, SOUND)).summary
    assert (fraction.scale, fraction.margin) == ("fraction", 0.005)
    same = SOUND.replace("0.", "50.").replace("mixup,1,50.60\nmixup,2,50.63", "mixup,1,50.5\nmixup,2,50.52")
    number = judged(table(tmp_path, same.replace("50.61", "50.51")))
    assert (number.summary.scale, number.summary.margin) == ("number", 0)
    assert arms(number)["mixup"].verdict == "undecided"  # although nothing differs
    with_margin = judged(table(tmp_path, same.replace("50.61", "50.51")), margin=(0.1,))
    assert arms(with_margin)["mixup"].verdict == "equivalent"


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"looks": (2, 3)}, "`looks` must rise from 3"),
        ({"margin": (-1.0,)}, "--margin"),
        ({"margin": (float("nan"),)}, "--margin"),
        ({"margin": (0.1, 0.2)}, r"--margin: expected one, one for each of 1 metrics, or `--margin .acc=….`; got 2"),
        ({"direction": ("up",)}, "--direction: expected maximize or minimize"),
        ({"resolution": 0.0}, "--resolution"),
        ({"family": "all"}, "--family"),
    ],
)
def test_terms_that_make_no_sense_are_refused(request_: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        judged(table(tmp_path, SOUND), **request_)


def test_looks_leave_out_seeds_that_an_arm_lacks(tmp_path: Path) -> None:
    text = SOUND + "baseline,4,0.5\nbaseline,5,0.52\nmixup,5,0.62\n"
    found = judged(table(tmp_path, text), looks=(3, 4))
    assert "seed 4 is not there for every arm: left out, since looks need all arms" in found.notes
    assert (found.summary.looks, found.summary.seeds) == ((3, 4), (1, 2, 3, 5))


def test_a_resolution_is_told_beside_a_margin_below_it(tmp_path: Path) -> None:
    found = judged(table(tmp_path, SOUND), resolution=0.01)
    assert found.notes == (
        "a run's acc moves in steps of 1.00 points",
        "the margin of 0.50 points is less than one such step",
    )
