"""The run keys of committed runs: what was trained before the house had wings is known by its old key."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from stn_bench.subject import find_subject
from stn_bench.tracking.identity import Identity, former_identity, former_keys, identify

ROOT = Path(__file__).parents[3]
SUBJECT = find_subject("stn")


def records(study: str) -> list[dict[str, Any]]:
    """Return the committed records of a study, one for each code that its runs ran."""
    with zipfile.ZipFile(ROOT / "reports" / study / "runs.zip") as file:
        found = map(json.loads, file.read("records.jsonl").splitlines())
        return list({json.dumps(record["identity"]["code"]): record for record in found}.values())


SLIM = records("slim")


def named(record: dict[str, Any]) -> str:
    return f"{record['ablation']}-{record['arm']}-{record['phase']}"


def today(record: dict[str, Any]) -> Identity:
    """Return the identity that today's code gives a run of the same settings, seed and pictures."""
    old = record["identity"]
    return identify(SUBJECT, record["settings"], record["seed"], old["dataset"], old["start"])


def test_the_committed_runs_ran_different_code() -> None:
    assert len(SLIM) > 10


@pytest.mark.parametrize("record", SLIM, ids=map(named, SLIM))
def test_their_code_has_the_digests_of_their_day(record: dict[str, Any]) -> None:
    old = Identity(**record["identity"])
    former = former_identity(SUBJECT, old, today(record))
    assert former is not None
    assert former.code == old.code
    assert (former.settings, former.libraries.keys()) == (old.settings, old.libraries.keys())


@pytest.mark.parametrize("record", SLIM, ids=map(named, SLIM))
def test_with_the_libraries_of_their_day_they_are_found_by_their_run_keys(
    record: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = record["identity"]["libraries"]
    monkeypatch.setattr(
        "stn_bench.tracking.identity._versions", lambda names: {name: versions.get(name) for name in names}
    )
    found = today(record)
    assert former_keys(SUBJECT, found) == [record["run_key"]]
    assert found.run_key != record["run_key"]
