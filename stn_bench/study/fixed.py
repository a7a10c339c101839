"""What was fixed of a plan before its runs, and what these read of the user's: plain values."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from stn_bench.settings import canonical


@dataclass(frozen=True)
class Reads:
    """What the runs of a plan read of the user's, and no settings tell.

    Args:
        code: definition of the user's own code -> digest.
        data: label of each question's base -> fingerprint of its data, where they are known.
    """

    code: Mapping[str, str]
    data: Mapping[str, str]


class _Fixed(BaseModel):
    """What was fixed of a plan at some time, with the runs that there were."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    runs: int = 0

    @model_serializer(mode="wrap")
    def _as_before(self, to_tree: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out that there were none, so that a file of older versions keeps its seal."""
        tree: dict[str, Any] = to_tree(self)
        return {name: value for name, value in tree.items() if name != "runs" or value}


class Deviation(_Fixed):
    """A change of the plan after it was preregistered.

    Args:
        date: when it was declared, ISO 8601 in UTC.
        because: why.
        changes: what changed, each as "path: was …, is …".
        digest: digest of the plan from then on.
        runs: the study's runs that had ended by then, whatever their settings were.
    """

    date: str
    because: str
    changes: tuple[str, ...]
    digest: str


class Preregistration(_Fixed):
    """A plan as it was fixed, with what was changed since.

    Args:
        study: its name.
        date: when it was fixed, ISO 8601 in UTC.
        digest: its digest then.
        terms: what is in force: as it was fixed, with every declared change.
        deviations: the declared changes, in their order.
        runs: the study's runs that had ended when it was fixed, whatever their settings were.
    """

    study: str
    date: str
    digest: str
    terms: dict[str, Any]
    deviations: tuple[Deviation, ...] = ()

    @property
    def seal(self) -> str:
        """SHA-256 over all of it: a file that was changed by hand has another."""
        return hashlib.sha256(canonical(self.model_dump(mode="json")).encode()).hexdigest()
