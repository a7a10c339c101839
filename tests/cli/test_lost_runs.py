"""A finished run whose files were removed: commands name it and go on, and `run` trains it again."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from commands import Cli
from tiny import TOYS, make_toy_root


def test_a_lost_run_is_named_by_all_and_trained_again_by_run(cli: Cli, tmp_path: Path) -> None:
    root = make_toy_root(tmp_path, TOYS.replace("[1, 2, 3]", "[1, 2]"))
    assert cli("run", "tiny", "--workers", 1, "--root", root)[0] == 0
    lost = next((root / "mlruns/artifacts").glob("*/artifacts/record.json")).parents[1]
    shutil.rmtree(lost)
    line = re.compile(
        rf"lost: the files of run {lost.name} \(\S+, seed \d\) were removed from the store's artifacts; "
        r"`stn-bench run tiny` trains it again"
    )
    for command, *rest in (["status"], ["plan"], ["report"], ["export", tmp_path / "runs.zip"]):
        code, out, err = cli(command, "tiny", *rest, "--root", root)
        assert code == 0, err
        assert line.fullmatch(err.strip()), err
        assert "3 of 4 runs finished" in out or command != "status"
    code, out, err = cli("run", "tiny", "--workers", 1, "--root", root)
    assert (code, err) == (0, "")
    assert len(line.findall(out)) == 1
    assert out.count(": finished") == 1
    code, out, err = cli("status", "tiny", "--root", root)
    assert "4 of 4 runs finished" in out
    assert err == ""
