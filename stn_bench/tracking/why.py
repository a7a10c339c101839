"""Why a run would be trained again today: the parts of its identity, then and now."""

from __future__ import annotations

from dataclasses import dataclass, field

from stn_bench.study.catalogue import Catalogue
from stn_bench.subject import Subject, find_subject, is_shipped
from stn_bench.system.conditions import changed_conditions, differing_conditions
from stn_bench.system.errors import ConfigError
from stn_bench.system.format import counted
from stn_bench.system.machine import Resources
from stn_bench.system.workspace import Workspace
from stn_bench.tracking.former import read_former
from stn_bench.tracking.identity import Identity, differences, former_identity, home_of, identify
from stn_bench.tracking.record import RunRecord, settings_today
from stn_bench.tracking.results import fingerprint_of


@dataclass(frozen=True)
class Today:
    """A run beside what its settings would give today.

    Args:
        changed: what has changed, a line each; none: it is reused.
        notes: what a reader should know beside, a line each.
        conditions: what may change the last digits of its numbers and is in no run key, where it is another, a line
            each.
    """

    changed: list[str]
    notes: list[str]
    conditions: list[str] = field(default_factory=list)


def compare_runs(record: RunRecord, other: RunRecord) -> Today:
    """Return what sets another run apart from a run, whatever there is today."""
    conditions = differing_conditions(record.machine, other.machine)
    return Today(differences(record.identity, other.identity), [], conditions)


def compare_with_today(record: RunRecord, workspace: Workspace, threads: int | None = None) -> Today:
    """Return what has changed since a run was trained; code of the user's is read, and run only to find its subject.

    Args:
        record: the run.
        workspace: where its data and the user's code are.
        threads: threads that its training would have today; unset, those of a study's worker.

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
        notes.append(_older_form(subject, old, new))
    home = "code __init__:" if is_shipped(record.subject) else f"code {home_of(subject)}:"
    conditions = changed_conditions(record.machine, threads or Resources.of().threads)
    if threads is None:
        conditions = [_of_workers(line, record) for line in conditions]
    return Today([line.replace("code __init__:", home) for line in differences(old, former or new)], notes, conditions)


def _of_workers(condition: str, record: RunRecord) -> str:
    """Return a line of conditions; of threads it says that they follow from the number of workers."""
    if not condition.startswith("threads: "):
        return condition
    then = record.machine["threads"]
    return (
        f"{condition}, a worker's share of the cores; `run --threads {then}` trains as then, since sums of another "
        f"number of threads may round otherwise"
    )


def _older_form(subject: Subject, old: Identity, new: Identity) -> str:
    """Return what a reader should know of a run key that has an older form."""
    shown = {digest for former in subject.former for digest in read_former(former.code).replacements.values()}
    lacking = sum(digest not in {*old.code.values(), *shown} for digest in new.code.values())
    lacks = [counted(lacking, "definition") + " of today's"] if lacking else []
    lacks += [f"the version of {name}" for name in sorted(new.libraries.keys() - old.libraries.keys())]
    assumed = f"; it lacks {' and '.join(lacks)}, assumed to be the same" if lacks else ""
    return f"its run key has an older form: what took the place of its code since gave the same results{assumed}"
