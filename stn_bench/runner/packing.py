"""Packing: which runs a study wants now, and the files that it takes to train them on another machine."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stn_bench.analysis.analyse import analyse
from stn_bench.analysis.cost import Clock, estimate_cost, reusable
from stn_bench.runner.job import Job
from stn_bench.runner.packed import DATASETS, STORES, PackedJob, PackedStudy, versions_of
from stn_bench.runner.wanted import WantedJobs, arm_jobs
from stn_bench.settings import canonical
from stn_bench.study.catalogue import Catalogue
from stn_bench.study.plan import Phase, Plan
from stn_bench.study.toml import read_toml
from stn_bench.system.errors import ArchiveError
from stn_bench.system.files import is_clutter
from stn_bench.system.machine import describe_machine
from stn_bench.system.workspace import Workspace
from stn_bench.tracking.code import files_of, own_modules
from stn_bench.tracking.results import Keys, Results
from stn_bench.tracking.zipped import MOST_BYTES, is_place

CACHE = "__pycache__"


@dataclass(frozen=True)
class Packing:
    """Packs one study.

    Args:
        plan: its plan.
        workspace: where its files and its data are.
        results: what is finished of it.
        keys: the run keys of today.
    """

    plan: Plan
    workspace: Workspace
    results: Results
    keys: Keys

    def pack(self, *, confirm: bool = False, also: Sequence[Path] = ()) -> PackedStudy:
        """Return the study with the runs that can be trained now and are not finished.

        Args:
            confirm: whether those on fresh seeds are among them, once all verdicts are there.
            also: further files and folders under the root that a training needs, and nothing tells of.

        Raises:
            ArchiveError: if there are no such runs, or a file cannot travel.
        """
        phases: list[Phase] = ["tune", "verdict", "confirm"]
        jobs = self._jobs(phases if confirm else phases[:-1])
        study = self.plan.study
        if not jobs:
            raise ArchiveError(
                f"study `{study.name}`: nothing to pack, since each run that it wants is finished; "
                f"`stn-bench report {study.name}` says what came of it"
            )
        files = self._contents([*self._study_files(), *self._code(jobs), *self._originals(jobs), *also])
        return PackedStudy(study.name, self.plan.subject.name, jobs, versions_of(jobs), files)

    def _jobs(self, phases: Iterable[Phase]) -> tuple[PackedJob, ...]:
        found = {key: job for phase in phases for key, job in self._wanted(phase).items()}
        clock = Clock(describe_machine(threads=1))
        estimate = estimate_cost(self.results, analyse(reusable(self.results, self.keys)), clock, workers=1)
        paces = {arm.label: arm.pace and round(arm.pace.seconds, 3) for arm in estimate.arms}
        return tuple(
            PackedJob(spec=job.spec, identity=job.identity, metric=job.metric, seconds=paces[job.spec.label])
            for _, job in sorted(found.items())
        )

    def _wanted(self, phase: Phase) -> Mapping[str, Job]:
        jobs = {arm.arm.label: arm_jobs(self.plan, phase, arm, self.keys, self.workspace) for arm in self.results.arms}
        return WantedJobs.of(phase, self.results, jobs).fresh()

    # Files ---------------------------------------------------------------------------------------------------------

    def _study_files(self) -> Iterator[Path]:
        """Yield the files of the root's own that say what is asked; those that come with stn-bench are there."""
        catalogue = Catalogue(self.workspace.root)
        name: str | None = self.plan.study.name
        while name and not catalogue.is_bundled("studies", name):
            path = catalogue.path("studies", name)
            yield path
            name = read_toml(path).get("extends")
        for ablation in self.plan.study.ablations:
            if not catalogue.is_bundled("ablations", ablation):
                yield catalogue.path("ablations", ablation)

    def _code(self, jobs: Iterable[PackedJob]) -> Iterator[Path]:
        """Yield the files of the user's own code: all that is imported on the way from what is named."""
        modules = own_modules(self.plan.subject, _settings(jobs))
        for module, file in files_of(modules).items():
            if file.is_relative_to(self.workspace.root):
                yield file
            elif module in modules:
                raise ArchiveError(f"`{module}` {self._outside(file)}")

    def _originals(self, jobs: Iterable[PackedJob]) -> Iterator[Path]:
        subject, originals = self.plan.subject, self.plan.subject.originals
        if originals is not None:
            for settings in _settings(jobs):
                yield from originals(subject.read(settings), self.workspace.datasets)

    def _contents(self, paths: Iterable[Path]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        left = MOST_BYTES
        files = {self._place(file): file for path in paths for file in self._files(path)}
        for place, file in sorted(files.items()):
            try:
                found[place] = file.read_bytes()
            except OSError as error:
                raise ArchiveError(f"{file}: cannot be read ({error.strerror or error})") from None
            left -= len(found[place])
            if left < 0:
                raise ArchiveError(
                    f"{file}: its study takes more than {MOST_BYTES >> 20} MiB of files, and an archive holds no more"
                )
        return found

    def _files(self, path: Path) -> Iterator[Path]:
        """Yield a file, or those in a folder, without what programs leave there."""
        path = Path(os.path.normpath(self.workspace.root / path))
        if not path.exists():
            raise ArchiveError(f"{path}: no such file or folder")
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            inner = file.relative_to(path).parts
            if file.is_file() and CACHE not in inner and not any(map(is_clutter, inner)):
                yield file

    def _place(self, file: Path) -> str:
        """Return the path of a file under the root.

        Raises:
            ArchiveError: if it has none, or none that every machine can have.
        """
        if not file.is_relative_to(self.workspace.root):
            raise ArchiveError(f"`{file.name}` {self._outside(file)}")
        place = file.relative_to(self.workspace.root).as_posix()
        if not is_place(place):
            raise ArchiveError(f"{file}: cannot be packed, since not every machine can have a file of this name")
        if place.startswith(STORES) and not place.startswith(DATASETS):
            raise ArchiveError(f"{file}: cannot be packed: of {STORES} only data travel")
        return place

    def _outside(self, file: Path) -> str:
        return (
            f"lies at {file}, outside {self.workspace.root}, and only what lies under the root is packed; put it there"
        )


def _settings(jobs: Iterable[PackedJob]) -> Iterator[Mapping[str, object]]:
    """Yield the settings of jobs, each once."""
    yield from {canonical(job.spec.settings): job.spec.settings for job in jobs}.values()
