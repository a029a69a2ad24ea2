"""How many workers suit this machine, or the part of it that this process may use."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

_NO_LIMIT = 1 << 30


def cpu_count() -> int:
    """The processors that this process may use: its affinity, and the quota of its control groups, rounded up."""
    return max(1, min(len(os.sched_getaffinity(0)), quota()))


def quota(proc: Path = Path("/proc/self")) -> int:
    """How many processors the control groups leave to the process of `proc`; very many if they do not say."""
    best = math.inf
    try:
        lines = (proc / "cgroup").read_text().splitlines()
        mounts = list(_mounts((proc / "mountinfo").read_text()))
    except OSError:
        return _NO_LIMIT
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for kind, options, root, point in mounts:
            if not controllers and kind == "cgroup2":
                best = min(best, _tightest(point, root, path, _quota_v2))
            elif kind == "cgroup" and "cpu" in controllers.split(",") and "cpu" in options:
                best = min(best, _tightest(point, root, path, _quota_v1))
    return _NO_LIMIT if best == math.inf else max(1, math.ceil(best))


def _mounts(text: str) -> Iterator[tuple[str, list[str], str, Path]]:
    """Of each control group file system: its type, options, which group its root is, and where it is mounted."""
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        _, _, _, root, point, *_ = before.split(" ")
        kind, _, options = after.split(" ")
        if kind in ("cgroup", "cgroup2"):
            yield kind, options.split(","), _unquoted(root), Path(_unquoted(point))


def _unquoted(name: str) -> str:
    for code, char in (("040", " "), ("011", "\t"), ("012", "\n"), ("134", "\\")):
        name = name.replace(f"\\{code}", char)
    return name


def _tightest(point: Path, root: str, path: str, read: Callable[[Path], float]) -> float:
    """The tightest quota from a group up to the one that is mounted.

    In a container the path may be one that is not to be seen there, of the machine: then the mounted one is meant.
    """
    inner = os.path.relpath(path, root)
    group = point if inner.startswith("..") else point / inner
    best = read(point)
    while group != point and point in group.parents:
        best = min(best, read(group))
        group = group.parent
    return best


def _quota_v2(group: Path) -> float:
    try:
        allowed, period = (group / "cpu.max").read_text().split()
        return math.inf if allowed == "max" else int(allowed) / int(period)
    except (OSError, ValueError):
        return math.inf


def _quota_v1(group: Path) -> float:
    try:
        allowed = int((group / "cpu.cfs_quota_us").read_text())
        return math.inf if allowed <= 0 else allowed / int((group / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return math.inf
