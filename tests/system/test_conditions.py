"""What may change last digits: what is told of it, and what is not."""

from __future__ import annotations

import pytest

from stn_bench.system.conditions import changed_conditions, read_conditions


@pytest.mark.parametrize("name", ["TF_ENABLE_ONEDNN_OPTS", "OMP_WAIT_POLICY", "XLA_FLAGS", "MKL_CBWR", "KMP_AFFINITY"])
def test_a_variable_that_may_change_digits_is_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(name, raising=False)
    machine = {"threads": 1, "conditions": read_conditions(1)}
    monkeypatch.setenv(name, "7")
    assert changed_conditions(machine, 1) == [f"{name}: was unset, is 7"]


def test_what_a_library_sets_as_it_is_imported_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that has imported scikit-learn, and `why`, which has not, also where an older record tells of it."""
    names = ("KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK")
    for name in names:
        monkeypatch.setenv(name, "TRUE")
    older = {"threads": 1, "conditions": {**read_conditions(1), **dict.fromkeys(names, "TRUE")}}
    for name in names:
        monkeypatch.delenv(name)
    assert changed_conditions(older, 1) == []
    assert not set(names) & set(read_conditions(1))
