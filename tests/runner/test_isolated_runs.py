"""A study's runs in one worker: a base's numbers are those that it has alone, whatever trained before it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commands import call
from makers import write

import stn_bench

FUNCTION = """
import os, random, signal
import numpy as np

def train(*, seed: int, leaves: str = "nothing", scale: float = 1.0) -> dict[str, float]:
    state = np.random.rand() + 10 * (np.geterr()["over"] != "warn") + 100 * ("POLLUTED" in os.environ)
    seen = {"test.error": scale * state, "test.process": float(os.getpid()), "test.hash": float(hash("a") % 1000)}
    if leaves != "nothing":
        np.random.seed(9), np.seterr(over="raise"), os.environ.update(POLLUTED="1"), os.chdir("/")
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if leaves == "spoilt":
        import spoiling
    if leaves == "crash":
        raise RuntimeError("polluted")
    return seen
"""
STUDY = """
title = "Who leaves what"
subject = "polluting:train"
ablations = ["leaving"]
metric = "test.error"
direction = "minimize"
margin = 0.1
seeds = [1, 2]
"""
ABLATION = """
title = "Leaving"
question = "What does a run leave?"
[arms.much]
set = { "leaves" = "much", "scale" = 2.0 }
[arms.spoilt]
set = { "leaves" = "spoilt", "scale" = 3.0 }
[arms.crashed]
set = { "leaves" = "crash", "scale" = 4.0 }
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("polluting")
    write(root / "polluting.py", FUNCTION)
    write(root / "spoiling.py", "import numpy as np\nnp.seterr(under='raise')\n")
    write(root / "studies/small.toml", STUDY)
    write(root / "ablations/leaving.toml", ABLATION)
    assert call("run", "small", "--workers", 1, "--root", root) in (0, 1)  # some crash
    return root


def test_no_run_sees_what_another_left(root: Path) -> None:
    runs = stn_bench.runs("small", root=root)
    assert len(runs[runs["status"] == "finished"]) == 6
    drawn = {seed: np.random.RandomState(seed).rand() for seed in (1, 2)}
    for scale, arm in ((1.0, "base"), (2.0, "much"), (3.0, "spoilt")):
        found = runs[runs["arm"] == arm].set_index("seed")["test.error"].to_dict()
        assert found == {seed: scale * value for seed, value in drawn.items()}


def test_behind_what_cannot_be_put_back_a_fresh_process_goes_on(root: Path) -> None:
    runs = stn_bench.runs("small", root=root)
    assert runs[runs["arm"] == "spoilt"]["test.process"].nunique() == 2
    assert runs["test.process"].nunique() in (2, 3)  # the others go on in one
    logs = "".join(path.read_text() for path in (root / "mlruns/logs").glob("worker-*.log"))
    assert logs.count("this process trains nothing more: what the import of `spoiling` sets (numpy's errors)") == 2


def test_texts_hash_alike_in_every_process(root: Path) -> None:
    assert stn_bench.runs("small", root=root)["test.hash"].dropna().nunique() == 1


# Conditions ----------------------------------------------------------------------------------------------------------


def test_why_tells_what_may_change_digits_and_is_in_no_key(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def why(*more: object) -> str:
        capsys.readouterr()
        assert call("why", *more, "--root", root) == 0
        return capsys.readouterr().out

    run, other, *_ = stn_bench.runs("small", root=root)["run_id"]
    assert "TF_ENABLE_ONEDNN_OPTS" not in why(run)
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    out = why(run)
    assert "is reused: nothing that is in its run key has changed" in out
    assert "  TF_ENABLE_ONEDNN_OPTS: was unset, is 0" in out
    told = json.loads(why(run, "--json"))
    assert (told["reused"], told["changed"]) == (True, [])
    assert "TF_ENABLE_ONEDNN_OPTS: was unset, is 0" in told["conditions"]
    assert "another run key, since:\n  seed: was 1, is 2\n" in why(run, other)
