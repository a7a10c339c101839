"""Why a run would be trained again today: the parts of its identity, then and now."""

from __future__ import annotations

from dataclasses import dataclass

from stn_bench.study.catalogue import Catalogue
from stn_bench.subject import find_subject, is_shipped
from stn_bench.system.errors import ConfigError
from stn_bench.system.workspace import Workspace
from stn_bench.tracking.identity import differences, former_identity, home_of, identify
from stn_bench.tracking.record import RunRecord, settings_today
from stn_bench.tracking.results import fingerprint_of


@dataclass(frozen=True)
class Today:
    """A run beside what its settings would give today.

    Args:
        changed: what has changed, a line each; none: it is reused.
        notes: what a reader should know beside, a line each.
    """

    changed: list[str]
    notes: list[str]


def compare_with_today(record: RunRecord, workspace: Workspace) -> Today:
    """Return what has changed since a run was trained; code of the user's is read, and run only to find its subject.

    Raises:
        ConfigError: if its subject cannot be found, or its settings name code that is not there.
    """
    if not is_shipped(record.subject):
        if record.subject not in Catalogue(workspace.root).named_subjects():
            raise ConfigError(
                f"run {record.run_id}: is one of subject `{record.subject}`, which no study here names; "
                f"`why` imports only code that a study names"
            )
        workspace.find_code()
    subject, old = find_subject(record.subject), record.identity
    known, noun = subject.paths, subject.example
    settings = {path: value for path, value in settings_today(record, subject.settings).items() if path in known}
    if subject.foreign_code(subject.read(settings, where=f"run {record.run_id}")):
        workspace.find_code()  # to be read; nothing of it is run
    fingerprint, notes = fingerprint_of(settings, subject, workspace.datasets), []
    if fingerprint is None:
        notes.append(f"its {noun}s are not made here; assumed to be the same")
    new = identify(subject, settings, record.seed, old.dataset if fingerprint is None else fingerprint, old.start)
    former = former_identity(subject, old, new)
    if former:
        added = ", ".join(sorted(new.libraries.keys() - old.libraries.keys()))
        notes.append(
            f"its run key has an older form, which lacks {len(new.code) - len(old.code)} of today's definitions"
            f"{added and f' and the version of {added}'}; they are assumed to be the same"
        )
    home = "code __init__:" if is_shipped(record.subject) else f"code {home_of(subject)}:"
    return Today([line.replace("code __init__:", home) for line in differences(old, former or new)], notes)
