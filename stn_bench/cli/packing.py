"""Commands for machines that reach no store: pack, work. What came of it, `import` reads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stn_bench.cli.options import Root, Settings, StudyName, Threads, TrackingUri, Workers, console
from stn_bench.study.load import check_runnable, load_plan
from stn_bench.subject import is_shipped
from stn_bench.system.errors import ConfigError
from stn_bench.system.format import counted
from stn_bench.system.gpus import gpus
from stn_bench.system.machine import Resources
from stn_bench.system.text import quote
from stn_bench.system.workspace import Workspace

if TYPE_CHECKING:
    from stn_bench.runner.packed import PackedStudy
    from stn_bench.runner.work import Work, Worked

SHARD = re.compile(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,5})")


def pack(
    study: StudyName,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Zip file to write.")],
    root: Root = None,
    tracking_uri: TrackingUri = None,
    settings: Settings = None,
    workers: Workers = None,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Also the fresh seeds of each best arm, once all verdicts are there.")
    ] = False,
    also: Annotated[
        list[Path] | None,
        typer.Option(
            "--with",
            metavar="PATH",
            help="A file or folder under the root that a training reads, though nothing says so.",
        ),
    ] = None,
) -> None:
    """Write the runs that a study wants now to a file, for `stn-bench work` on a machine that reaches no store."""
    workspace = Workspace.at(root, tracking_uri)
    from stn_bench.cli.planning import finished_of
    from stn_bench.cli.progress import Progress
    from stn_bench.runner.data import prepare_data
    from stn_bench.runner.packed import KIND, installed_by, zip_study
    from stn_bench.runner.packing import Packing
    from stn_bench.study.calibration import calibrated
    from stn_bench.tracking.results import Keys, as_read, check_code, check_data
    from stn_bench.tracking.zipped import check_target, write_zip

    check_target(file, KIND)
    planned = as_read(load_plan(study, workspace, settings or ()), workspace.datasets)
    check_runnable(planned, study, confirm=confirm)
    planned = calibrated(planned, workspace.root)
    check_code(planned)
    with Progress(study, planned.subject, console) as progress:
        arms = [arm.config.resolved() for arm in planned.arms]
        prepare_data(planned.subject, arms, workspace, Resources.of(workers), progress.preparing)
    check_data(planned, workspace.datasets)
    keys = Keys(planned.subject, workspace.datasets)
    packing = Packing(planned, workspace, finished_of(planned, workspace, keys), keys)
    packed = packing.pack(confirm=confirm, also=also or ())
    size = write_zip(file, zip_study(packed))
    runs = counted(len(packed.jobs), "run")
    _say(f"{file}: {runs} of study {study}, {counted(len(packed.files), 'file')}, {size / 1e6:.2f} MB")
    _say(f"needs there: {installed_by(packed.versions)}")
    _say(f"there: stn-bench work {file.name} -o results.zip; back here: stn-bench import results.zip")


def work(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Zip file that `stn-bench pack` wrote.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="RESULTS", help="Zip file of results; beside it RESULTS.work.")
    ],
    part: Annotated[
        str,
        typer.Option("--shard", metavar="K/N", help="Train part K of N alone, as others train the others."),
    ] = "1/1",
    workers: Workers = None,
    threads: Threads = None,
) -> None:
    """Train a packed study without any store. Stopped, the same command goes on; what is finished is in RESULTS."""
    number, count = _shard(part)
    from stn_bench.cli.progress import Progress
    from stn_bench.runner.packed import read_packed, shard
    from stn_bench.runner.work import Work

    packed = read_packed(file)
    jobs = shard(packed.jobs, number, count)
    visible = gpus({name for job in jobs for name in job.identity.libraries})
    here = Work(packed, jobs, output.expanduser().absolute(), Resources.of(workers, threads, visible))
    here.check()
    if not jobs:
        _say(f"{file}: {counted(len(packed.jobs), 'run')} in {count} parts: part {number} has none")
        return
    for line in _foreign(packed):
        _say(line)
    with here.alone():
        subject = here.subject()
        with Progress(packed.study, subject, console) as progress:
            worked = here.train(subject, progress)
    _tell(packed, output, here, worked)
    if worked.finished < worked.jobs:
        raise typer.Exit(1)


def _shard(text: str) -> tuple[int, int]:
    found = SHARD.fullmatch(text)
    if not found or int(found[1]) > int(found[2]):
        raise ConfigError(f"--shard: expected K/N, part K of N parts, such as 3/8; got {quote(text)}")
    return int(found[1]), int(found[2])


def _foreign(packed: PackedStudy) -> list[str]:
    """Return what code of the file will run, in a line."""
    code = [path for path in packed.files if path.endswith(".py")]
    if not code and is_shipped(packed.subject):
        return []
    return [f"! runs code of {packed.study}'s own, with your rights: {', '.join(code) or packed.subject}"]


def _tell(packed: PackedStudy, output: Path, here: Work, worked: Worked) -> None:
    _say(f"{output}: {counted(worked.archived, 'run')} of study {packed.study}; read them with `stn-bench import`")
    if worked.lacking:
        _say(f"files of {counted(worked.lacking, 'run')} have no place in it; they are in {here.folder / 'runs'}")
    if missing := worked.jobs - worked.finished:
        _say(
            f"{counted(missing, 'run')} did not finish; {here.workspace.logs} says why. The same command tries again."
        )


def _say(line: str) -> None:
    console.print(line, soft_wrap=True, markup=False)


__all__ = ["pack", "work"]
