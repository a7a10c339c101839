"""The processor time that a container allows: Linux's control groups, of version 1 and 2.

A container that may use two cores of a machine of sixty-four shows all sixty-four to whoever counts them. What it may
use stands in the files of its group, and of each group above: the smallest counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

OCTAL = re.compile(r"\\([0-7]{3})")  # how mountinfo writes a space in a path


def allowed_cores(system: Path = Path("/")) -> float | None:
    """Return how many cores' time this process's groups allow it, such as 1.5; None where nothing limits it.

    Args:
        system: the root of the file system.
    """
    allowed = [cores for folder in _folders(system) if (cores := _cores_of(folder)) is not None]
    return min(allowed, default=None)


def _folders(system: Path) -> Iterator[Path]:
    """Yield the folder of each group that this process is in, and of those above, of both versions."""
    groups = dict(_groups(system))
    for mounted, root, kinds in _mounts(system):
        for kind in kinds & groups.keys():
            place = system / mounted.relative_to("/")
            inside = _relative(groups[kind], root)
            yield place
            for length in range(len(inside.parts)):
                yield place.joinpath(*inside.parts[: length + 1])


def _groups(system: Path) -> Iterator[tuple[str, PurePosixPath]]:
    """Yield the name of each controller, "" for all of version 2, and the path of this process's group."""
    for line in _lines(system / "proc/self/cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            if controller in ("", "cpu"):
                yield controller, PurePosixPath(path or "/")


def _mounts(system: Path) -> Iterator[tuple[PurePosixPath, PurePosixPath, set[str]]]:
    """Yield where groups are mounted, which group is shown there, and for which controllers."""
    for line in _lines(system / "proc/self/mountinfo"):
        before, dash, behind = line.partition(" - ")
        fields, (kind, *rest) = before.split(), behind.split() or [""]
        if not dash or len(fields) < 5 or kind not in ("cgroup", "cgroup2"):
            continue
        root, mounted = (PurePosixPath(OCTAL.sub(lambda code: chr(int(code[1], 8)), one)) for one in fields[3:5])
        if mounted.is_absolute():
            yield mounted, root, {""} if kind == "cgroup2" else set(rest[-1].split(",") if rest else ())


def _relative(group: PurePosixPath, root: PurePosixPath) -> PurePosixPath:
    """Return a group's path below the one that is mounted; the mounted one, where it lies elsewhere."""
    inside = group.relative_to(root) if group.is_relative_to(root) else PurePosixPath()
    return PurePosixPath() if ".." in inside.parts else inside


def _cores_of(folder: Path) -> float | None:
    """Return what a group allows by itself, or None."""
    if words := " ".join(_lines(folder / "cpu.max")).split():
        return _share(*words[:2]) if len(words) > 1 else None
    quota, period = (" ".join(_lines(folder / f"cpu.cfs_{one}_us")) for one in ("quota", "period"))
    return _share(quota, period)


def _share(quota: str, period: str) -> float | None:
    if not quota.strip().isdecimal() or not period.strip().isdecimal():  # "max", -1, or no such file
        return None
    return int(quota) / int(period) if int(quota) and int(period) else None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []
