"""Working a packed study through, on a machine that reaches no store: no MLflow, no Optuna, no database.

All that comes about lies in a folder beside the file of results: the study's files as a root of their own, data,
checkpoints, logs, and each run in a folder. So the same `work` goes on where it was stopped.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stn_bench.runner.crashes import Crashes
from stn_bench.runner.data import prepare_data
from stn_bench.runner.engine import Processes
from stn_bench.runner.folder_queue import open_folders
from stn_bench.runner.job import Job
from stn_bench.runner.packed import PackedJob, PackedStudy, check_versions
from stn_bench.runner.pool import Listener, Pool, Watcher
from stn_bench.runner.registrar import JobRegistrar
from stn_bench.runner.worker import Assignment, JobEnded, JobEvent
from stn_bench.study.catalogue import Catalogue
from stn_bench.subject import Subject
from stn_bench.system.errors import ArchiveError, DataError, Interrupted, MachineError
from stn_bench.system.files import write_whole
from stn_bench.system.format import counted
from stn_bench.system.lock import Lock
from stn_bench.system.machine import Resources, disk_full
from stn_bench.system.signals import Interrupts, counting_interrupts
from stn_bench.system.text import shorten
from stn_bench.system.workspace import Workspace
from stn_bench.tracking.archive import TRAINED, Archive, may_hold, write_archive
from stn_bench.tracking.code import forget
from stn_bench.tracking.folders import RunFolders
from stn_bench.tracking.identity import Identity, differences, identify
from stn_bench.tracking.planned_code import PlannedCode
from stn_bench.tracking.results import Keys
from stn_bench.tracking.zipped import MOST_BYTES, check_home

WORK = ".work"
DIGEST, LOCK = "packed.sha256", "work.lock"
ROOM = MOST_BYTES - (1 << 24)  # of runs in a file of results, and some for its manifest
SAVE_SECONDS = 60.0
SHOWN = 3  # differences that a refusal names before it counts the rest


@dataclass(frozen=True)
class Worked:
    """How far a `work` came.

    Args:
        jobs: number of its jobs.
        finished: how many of them have finished or diverged.
        archived: number of runs in the file of results; 0 where nothing was written.
        lacking: how many of these keep files that it has no room for, or that no archive may hold: such as have a name
            that not every machine can have, or that a file manager gives, and arrays of Python objects.
    """

    jobs: int
    finished: int
    archived: int
    lacking: int


@dataclass(frozen=True)
class Work:
    """The work on one packed study, or on a part of it.

    Args:
        packed: the study.
        jobs: the jobs to train.
        output: the file of results.
        resources: processes and threads.
    """

    packed: PackedStudy
    jobs: Sequence[PackedJob]
    output: Path
    resources: Resources

    @property
    def folder(self) -> Path:
        """The folder of all that comes about."""
        return self.output.with_name(f"{self.output.stem}{WORK}")

    @functools.cached_property
    def workspace(self) -> Workspace:
        """The study's files as a root."""
        return Workspace((self.folder / "root").resolve())

    def check(self) -> None:
        """Check that the study can be trained here; nothing of it is written or run.

        Raises:
            ArchiveError: if there is no place for its results, or that of another study.
            MachineError: if this machine has other versions than it was packed with.
        """
        check_home(self.output)
        check_versions(self.packed.versions)
        known, found = self.folder / DIGEST, list(self.folder.glob("*"))
        if self.output.is_dir() or (self.output.exists() and not known.is_file()):
            raise ArchiveError(f"{self.output}: is there already, and not by `work`; name another file with -o")
        is_ours = known.read_text() == self.packed.digest if known.is_file() else not found
        if not is_ours and [one.name for one in found] != [LOCK]:
            raise ArchiveError(f"{self.folder}: holds what came of another archive; name another file with -o")

    def alone(self) -> Lock:
        """Return what is held while the folder is worked in; another `work` on it is refused meanwhile."""
        return Lock(self.folder / LOCK, wait=False)

    def subject(self) -> Subject:
        """Return the subject, once its files are there: code of the archive is imported here, and not before.

        Raises:
            ArchiveError: if the code is not what the run keys were taken from.
            StnBenchError: if there is no such subject.
        """
        self._unpack()
        forget()  # code is read as it is now, in a process that has read some before
        subject = Catalogue(self.workspace.root).find_subject(self.packed.subject, f"study `{self.packed.study}`")
        if any(subject.foreign_code(subject.read(job.spec.settings)) for job in self.jobs):
            self.workspace.find_code()
        return subject

    def train(self, subject: Subject, watcher: Watcher) -> Worked:
        """Train what is not trained yet, and write what is finished to the file of results, however it ends.

        Raises:
            Interrupted: after Ctrl-C, SIGTERM or a hang-up.
            StnBenchError: if data cannot be had, or something else than a job keeps all from being trained.
        """
        jobs = self.prepared(subject, watcher)
        runs = open_folders(self.folder).tracking
        fresh = {key: job for key, job in jobs.items() if not runs.finished_as(key, job.is_trial)}
        reused = len(jobs) - len(fresh)
        interrupts = Interrupts()
        try:
            if fresh:
                watcher.phase("packed", fresh, reused)
                interrupts = self._train(subject, fresh, reused, Saving(watcher, lambda: self._write(runs)))
        finally:
            archived, lacking = self._write(runs)
        if interrupts.count:
            kept = f"{counted(archived, 'run')} in {self.output}" if archived else "no run has finished"
            raise Interrupted(f"stopped; {kept}; the same command goes on", interrupts.signum)
        finished = sum(runs.finished_as(key, job.is_trial) is not None for key, job in jobs.items())
        return Worked(len(jobs), finished, archived, lacking)

    def _train(self, subject: Subject, fresh: Mapping[str, Job], reused: int, watcher: Listener) -> Interrupts:
        places = open_folders(self.folder)
        places.queue.clear()
        names = _in_turn(fresh)
        assignment = Assignment(
            self.workspace,
            functools.partial(open_folders, self.folder),
            self.resources.threads,
            names,
            fresh,
            "",
            "maximize",
            code=PlannedCode.of(subject, [job.spec.settings for job in fresh.values()], self.workspace.root),
        )
        engine = Processes(self.resources)
        registrar = JobRegistrar(places, names, fresh, subject.timeout)
        crashes = Crashes(fresh, reused, self.workspace.logs)
        with counting_interrupts() as interrupts:
            Pool(engine, assignment, engine.count(len(fresh)), watcher, registrar, interrupts, crashes).run()
        return interrupts

    # Before the first job ------------------------------------------------------------------------------------------

    def _unpack(self) -> None:
        try:
            self.folder.mkdir(exist_ok=True)
            write_whole(self.folder / DIGEST, self.packed.digest.encode())
            for path, content in self.packed.files.items():
                write_whole(self.workspace.root / path, content)
            self.workspace.root.mkdir(exist_ok=True)
        except OSError as error:
            reason = error.strerror or error
            raise disk_full(error) or MachineError(f"{self.folder}: cannot be written ({reason})") from None

    def prepared(self, subject: Subject, watcher: Watcher) -> dict[str, Job]:
        """Return run key -> job, once the data are made and all that the keys are taken from is the same here.

        Raises:
            ArchiveError: if code or libraries are not the same.
            StnBenchError: if data cannot be made, or are others.
        """
        self._check_code(subject)
        settings = {id(job.spec.settings): subject.read(job.spec.settings) for job in self.jobs}
        prepare_data(subject, list(settings.values()), self.workspace, self.resources, watcher.preparing)
        keys, found = Keys(subject, self.workspace.datasets), {}
        for job in self.jobs:
            here = keys.identity(job.spec)
            if here is None or here.dataset != job.identity.dataset:
                raise DataError(
                    f"{job.spec.label}: its data are others here than where the study was packed (fingerprint "
                    f"{job.identity.dataset[:12]}, here {here.dataset[:12] if here else 'none'}); nothing was trained"
                )
            found[job.run_key] = Job.of(
                subject,
                job.spec,
                job.identity,
                self.workspace,
                experiment="",
                parent="",
                threads=self.resources.threads,
                metric=job.metric,
            )
        return found

    def _check_code(self, subject: Subject) -> None:
        """See that code and libraries are those that the run keys were taken from; data are not made yet.

        Raises:
            ArchiveError: if they are not.
        """
        found: dict[int, Identity] = {}  # what the seeds of an arm share is worked out once
        for job in self.jobs:
            settings, was = job.spec.settings, job.identity
            found[id(settings)] = found.get(id(settings)) or identify(subject, settings, 0, "")
            here = replace(found[id(settings)], seed=was.seed, dataset=was.dataset)
            if here != was:
                others = list(map(shorten, differences(was, here)))
                more = f"; {len(others) - SHOWN} more" if len(others) > SHOWN else ""
                raise ArchiveError(
                    f"{job.spec.label}: would be another run here ({'; '.join(others[:SHOWN])}{more}); pack the study "
                    f"with the code that is here, or bring its code here"
                )

    # At the end ----------------------------------------------------------------------------------------------------

    def _write(self, runs: RunFolders) -> tuple[int, int]:
        """Write the file of results; return the number of its runs, and of those whose files it lacks in part."""
        known = {job.run_key for job in self.packed.jobs}
        records = tuple(sorted((one for one in runs.ended() if one.run_key in known), key=lambda one: one.run_key))
        if not records:
            return 0, 0
        left, lacking = ROOM - sum(len(one.model_dump_json()) for one in records), set[str]()
        files: dict[str, dict[str, bytes]] = {}
        listed = [(one.run_key, name, path) for one in records for name, path in runs.files(one.run_id)]
        for run_key, name, path in sorted(listed, key=lambda one: (not one[1].endswith(".npz"), one)):
            content = path.read_bytes() if path.stat().st_size <= left else None
            if content is None or not may_hold(run_key, name, content):
                lacking.add(run_key)
                continue
            left -= len(content)
            files.setdefault(run_key, {})[name] = content
        write_archive(self.output, Archive(self.packed.study, records, files, TRAINED))
        return len(records), len(lacking)


class Saving:
    """Passes events on, and writes the file of results now and then: whoever is killed cannot any more.

    Args:
        listener: what receives the events.
        write: writes the file.
    """

    def __init__(self, listener: Listener, write: Callable[[], object]) -> None:
        self._listener, self._write, self._written = listener, write, time.monotonic()
        self.say = listener.say

    def event(self, event: JobEvent) -> None:
        """Pass an event on."""
        self._listener.event(event)
        if isinstance(event, JobEnded) and time.monotonic() - self._written > SAVE_SECONDS:
            self._write()
            self._written = time.monotonic()


def _in_turn(jobs: Mapping[str, Job]) -> tuple[str, ...]:
    """Return run keys in the order in which the jobs are begun: one of each arm, then the next of each.

    Before these come two arms on two seeds: few runs tell then whether any can be trained.
    """
    arms, draws = dict[str, int](), dict[tuple[int, int], int]()
    places = {
        key: (
            draws.setdefault((job.spec.seed, -1 if job.spec.trial is None else job.spec.trial), len(draws)),
            arms.setdefault(job.spec.label, len(arms)),
        )
        for key, job in sorted(jobs.items(), key=lambda one: (one[1].spec.seed, one[1].spec.trial or 0, one[0]))
    }
    return tuple(sorted(jobs, key=lambda key: (max(places[key]) > 1, *places[key])))
