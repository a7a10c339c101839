"""Registries: dicts whose entries the settings name; only those that they name are in a run key."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import stn_bench.subjects.stn
from stn_bench.study.schema import setting_schemas
from stn_bench.subjects.stn import subject

HOME = Path(stn_bench.subjects.stn.__file__).parent


def registries(part: str) -> Iterator[tuple[str, set[object]]]:
    """Yield each top-level dict of the subject's modules, as it is written, with its keys."""
    for file in sorted(HOME.glob(part)):
        for statement in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(statement, ast.Assign | ast.AnnAssign) and isinstance(statement.value, ast.Dict):
                keys = {key.value for key in statement.value.keys if isinstance(key, ast.Constant)}
                yield f"{file.relative_to(HOME)}: {ast.unparse(statement)}", keys


def test_our_registries_hold_nothing_that_a_setting_cannot_name() -> None:
    """An entry that no setting names would be left out of every identity."""
    values = {value for schema in setting_schemas(subject).values() for value in schema.get("enum", ())}
    found = [*registries("nn/*.py"), *registries("data/*.py"), *registries("training.py")]
    assert len(found) > 10
    for written, keys in found:
        assert keys <= values, written
