"""The run keys of committed runs: what was trained before the house had wings is known by its old key."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from stn_bench.settings import canonical
from stn_bench.subject import Subject, find_subject
from stn_bench.tracking import identity
from stn_bench.tracking.former import read_former
from stn_bench.tracking.identity import Identity, former_identities, former_identity, identify

ROOT = Path(__file__).parents[3]
SUBJECT = find_subject("stn")


def former_keys(subject: Subject, identity: Identity) -> list[str]:
    """Return the run keys that older versions would give a run."""
    return [one.run_key for one in former_identities(subject, identity)]


def records(study: str) -> list[dict[str, Any]]:
    """Return the committed records of a study, one for each code that its runs ran."""
    with zipfile.ZipFile(ROOT / "reports" / study / "runs.zip") as file:
        found = map(json.loads, file.read("records.jsonl").splitlines())
        return list({json.dumps(record["identity"]["code"]): record for record in found}.values())


SLIM = records("slim_november")


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
    assert former_keys(SUBJECT, found)[1:] == [record["run_key"]]  # behind that of the training it had of its own
    assert found.run_key != record["run_key"]


# While `stn` had a training of its own ------------------------------------------------------------------------------

OWN = {
    "default": ({}, "fe7268f6e71b33dc57374c7d3a5f88aa771674b4519834d48837e1d8a7894514"),
    "plain": ({"model.transformer.kind": "none"}, "2d8b71f8200d534dd08c547dc8f375852222e846738deac34b1539fb9d9c4cc5"),
    "cut": ({"train.validation": "shuffled_cut"}, "84aa8a9c851098c5d1d17964bf922dd5ef6e3975c65d9ea683df321dac5f898c"),
    "opencv": (
        {"data.correction.kind": "opencv", "optimizer.name": "sgd"},
        "f06fb150ad49bd563c8fc74f2930e925b61b6233d11498b2c00d4da2a54c653d",
    ),
}
"""Settings, and the SHA-256 of the code in their keys, as the last version of that training computed it."""


def of(settings: dict[str, Any]) -> Identity:
    return identify(SUBJECT, SUBJECT.read(settings).resolved().flat(), 1, "pictures")


@pytest.mark.parametrize("case", OWN)
def test_the_key_of_the_replaced_training_is_computed_as_it_was(case: str) -> None:
    settings, digest = OWN[case]
    found = identity._in_form_of(SUBJECT.former[0], SUBJECT, of(settings))
    assert found is not None
    assert hashlib.sha256(canonical(found.code).encode()).hexdigest() == digest
    assert found.run_key == former_keys(SUBJECT, of(settings))[0] != of(settings).run_key


def test_former_keys_count_only_as_long_as_the_code_is_what_was_shown_to_train_the_same() -> None:
    """Else: `python benchmarks/same_training.py --write`, which trains with both first."""
    found = of({})
    assert len(former_keys(SUBJECT, found)) == 2
    fitted = "stn_bench.subjects.keras_training.training:fitted"
    assert fitted in read_former(SUBJECT.former[0].code).replacements
    other = dataclasses.replace(found, code={**found.code, fitted: "0" * 64})
    assert former_keys(SUBJECT, other) == []
    more = dataclasses.replace(found, code={**found.code, "training:more": "0" * 64})
    assert former_keys(SUBJECT, more) == []


def test_runs_of_a_network_of_the_readers_own_are_trained_again() -> None:
    """Their layers' FLOPs are counted by more kinds of layers than then."""
    assert former_keys(SUBJECT, of({"model.factory": "lent:LentRun"})) == []
