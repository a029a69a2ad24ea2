"""How many workers suit this machine, or the part of it that this process may use."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path


def cpu_count() -> int:
    """The processors that this process may use: its affinity, and the quota of its control groups."""
    return max(1, min(len(os.sched_getaffinity(0)), _quota()))


def _quota() -> int:
    best = math.inf
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return 1 << 30
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            best = min(best, _walk(Path("/sys/fs/cgroup"), path, _quota_v2))
        elif "cpu" in controllers.split(","):
            best = min(best, _walk(Path("/sys/fs/cgroup/cpu"), path, _quota_v1))
    return 1 << 30 if best == math.inf else max(1, math.ceil(best))


def _walk(root: Path, path: str, read: Callable[[Path], float]) -> float:
    """The tightest quota from a group up to the root. In a container the path may not exist: then the root's."""
    best = math.inf
    group = root / path.lstrip("/")
    while True:
        best = min(best, read(group))
        if group == root or root not in group.parents:
            return best
        group = group.parent


def _quota_v2(group: Path) -> float:
    try:
        quota, period = (group / "cpu.max").read_text().split()
        return math.inf if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return math.inf


def _quota_v1(group: Path) -> float:
    try:
        quota = int((group / "cpu.cfs_quota_us").read_text())
        return math.inf if quota <= 0 else quota / int((group / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return math.inf
