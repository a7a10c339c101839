"""The cores that a container allows, on file trees as the kernel shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from stn_bench.system import machine
from stn_bench.system.machine import Resources, cores
from stn_bench.system.quota import allowed_cores

V2 = "32 23 0:28 {root} {mounted} rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "35 25 0:30 {root} {mounted} rw,nosuid shared:10 - cgroup cgroup rw,cpu,cpuacct\n"
MEMORY = "36 25 0:31 / /sys/fs/cgroup/memory rw,nosuid shared:11 - cgroup cgroup rw,memory\n"
DISK = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"


def tree(folder: Path, groups: str, mounts: str, files: dict[str, str]) -> Path:
    """Write a file system: a process's groups, what is mounted, and the files of groups by path."""
    (folder / "proc/self").mkdir(parents=True)
    (folder / "proc/self/cgroup").write_text(groups)
    (folder / "proc/self/mountinfo").write_text(DISK + mounts)
    for name, content in files.items():
        path = folder / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def two(root: str = "/", mounted: str = "/sys/fs/cgroup") -> str:
    return V2.format(root=root, mounted=mounted)


def one(root: str = "/", mounted: str = "/sys/fs/cgroup/cpu") -> str:
    return V1.format(root=root, mounted=mounted) + MEMORY


@pytest.mark.parametrize(
    ("content", "allowed"),
    [("200000 100000\n", 2.0), ("150000 100000\n", 1.5), ("5000 10000", 0.5), ("max 100000\n", None), ("", None)],
)
def test_version_2_in_a_container(tmp_path: Path, content: str, allowed: float | None) -> None:
    """Docker and Kubernetes show a container its own group as the root."""
    assert allowed_cores(tree(tmp_path, "0::/\n", two(), {"cpu.max": content})) == allowed


def test_the_smallest_of_all_groups_above_counts(tmp_path: Path) -> None:
    """A batch system limits the job, and a step in it may have no limit, or a wider one."""
    root = tree(
        tmp_path,
        "0::/system.slice/job_7/step_0\n",
        two(),
        {
            "system.slice/cpu.max": "800000 100000",
            "system.slice/job_7/cpu.max": "300000 100000",
            "system.slice/job_7/step_0/cpu.max": "max 100000",
        },
    )
    assert allowed_cores(root) == 3.0


@pytest.mark.parametrize(
    ("quota", "allowed"), [("400000", 4.0), ("250000", 2.5), ("-1", None), ("0", None), ("nonsense", None)]
)
def test_version_1_in_a_container(tmp_path: Path, quota: str, allowed: float | None) -> None:
    """The group's path is the host's, and the container sees that group alone, as the root of what is mounted."""
    root = tree(
        tmp_path,
        "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n0::/docker/abc\n",
        one("/docker/abc"),
        {"cpu/cpu.cfs_quota_us": quota, "cpu/cpu.cfs_period_us": "100000"},
    )
    assert allowed_cores(root) == allowed


def test_version_1_on_the_host_beside_version_2(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        "4:cpu,cpuacct:/user/me\n0::/user.slice\n",
        one() + two(mounted="/sys/fs/cgroup/unified"),
        {
            "cpu/user/cpu.cfs_quota_us": "150000",
            "cpu/user/cpu.cfs_period_us": "50000",
            "cpu/user/me/cpu.cfs_quota_us": "-1",
            "cpu/user/me/cpu.cfs_period_us": "50000",
        },
    )
    assert allowed_cores(root) == 3.0


def test_a_group_that_is_not_shown_counts_as_the_one_that_is(tmp_path: Path) -> None:
    root = tree(tmp_path, "0::/../../elsewhere\n", two(r"/a\040b"), {"cpu.max": "100000 100000"})
    assert allowed_cores(root) == 1.0


def test_without_groups_nothing_is_limited(tmp_path: Path) -> None:
    assert allowed_cores(tmp_path) is None


@pytest.mark.parametrize(("allowed", "expected"), [(None, 8), (1.5, 2), (0.2, 1), (64.0, 8)])
def test_workers_and_threads_follow_what_is_allowed(
    allowed: float | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "allowed_cores", lambda: allowed)
    monkeypatch.setattr(machine, "_own_cores", lambda: 8)
    assert cores() == expected
    assert Resources.of() == Resources(expected, 1)
    assert Resources.of(workers=1) == Resources(1, expected)
