"""How many workers, and how many threads of numerical libraries each of them has."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from warmfork import ForkExecutor, _cpus

CGROUP_V1 = Path("/sys/fs/cgroup/cpu")


def fake(tmp_path, cgroup, mounts, files):
    """A /proc/self and the control groups that it speaks of."""
    proc = tmp_path / "proc"
    proc.mkdir()
    (proc / "cgroup").write_text(cgroup)
    lines = ["22 1 0:20 / /proc rw shared:5 - proc proc rw"]
    for root, point, kind, options in mounts:
        lines.append(f"30 22 0:26 {root} {tmp_path}/{point} rw,nosuid shared:9 master:1 - {kind} {kind} {options}")
    (proc / "mountinfo").write_text("\n".join(lines) + "\n")
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return proc


V2 = [("/", "sys", "cgroup2", "rw")]
V1 = [("/", "sys/cpu,cpuacct", "cgroup", "rw,cpu,cpuacct"), ("/", "sys/memory", "cgroup", "rw,memory")]


@pytest.mark.parametrize(
    "cgroup, mounts, files, expected",
    [
        ("0::/\n", V2, {}, None),
        ("0::/a\n", V2, {"sys/a/cpu.max": "max 100000\n"}, None),
        ("0::/a\n", V2, {"sys/a/cpu.max": "200000 100000\n"}, 2),
        ("0::/a\n", V2, {"sys/a/cpu.max": "150000 100000\n"}, 2),
        ("0::/a\n", V2, {"sys/a/cpu.max": "10000 100000\n"}, 1),
        ("0::/a/b\n", V2, {"sys/a/cpu.max": "300000 100000\n", "sys/a/b/cpu.max": "max 100000\n"}, 3),
        ("0::/a/b\n", V2, {"sys/a/cpu.max": "100000 50000\n", "sys/a/b/cpu.max": "500000 100000\n"}, 2),
        ("0::/a/b/c\n", V2, {"sys/a/cpu.max": "900000 100000\n", "sys/a/b/c/cpu.max": "400000 100000\n"}, 4),
        ("0::/a\n", V2, {"sys/a/cpu.max": "nonsense\n"}, None),
        # A container that sees itself at the root, and one that is told of a group of the machine.
        ("0::/\n", V2, {"sys/cpu.max": "300000 100000\n"}, 3),
        ("0::/docker/x\n", [("/docker/x", "sys", "cgroup2", "rw")], {"sys/cpu.max": "300000 100000\n"}, 3),
        ("0::/docker/x/y\n", [("/docker/x", "sys", "cgroup2", "rw")], {"sys/y/cpu.max": "500000 100000\n"}, 5),
        ("0::/../other\n", V2, {"sys/cpu.max": "300000 100000\n"}, 3),
        # Version 1, and both beside each other.
        ("3:cpu,cpuacct:/\n", V1, {"sys/cpu,cpuacct/cpu.cfs_quota_us": "-1\n"}, None),
        (
            "4:memory:/a\n3:cpu,cpuacct:/a\n", V1,
            {"sys/cpu,cpuacct/a/cpu.cfs_quota_us": "250000\n", "sys/cpu,cpuacct/a/cpu.cfs_period_us": "100000\n"}, 3,
        ),
        (
            "3:cpu,cpuacct:/a\n0::/a\n", [*V1, ("/", "sys/unified", "cgroup2", "rw")],
            {"sys/cpu,cpuacct/a/cpu.cfs_quota_us": "-1\n", "sys/unified/a/cpu.max": "200000 100000\n"}, 2,
        ),
        ("2:cpuset:/a\n", [("/", "sys/cpuset", "cgroup", "rw,cpuset")], {"sys/cpuset/a/cpu.cfs_quota_us": "1\n"}, None),
    ],
)
def test_quota(tmp_path, cgroup, mounts, files, expected):
    found = _cpus.quota(fake(tmp_path, cgroup, mounts, files))
    assert (found if found < 1 << 20 else None) == expected


def test_quota_without_proc(tmp_path):
    assert _cpus.quota(tmp_path) >= 1 << 20


def test_mount_point_with_a_space(tmp_path):
    mounts = [("/", "s\\040s", "cgroup2", "rw")]
    assert _cpus.quota(fake(tmp_path, "0::/\n", mounts, {"s s/cpu.max": "200000 100000"})) == 2


COUNTS = """
import json
from warmfork import ForkExecutor
with ForkExecutor() as executor:
    print(json.dumps(executor.stats().max_workers))
"""


def run(code, before=None):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, preexec_fn=before)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def group():
    """A real group of version 1 with a quota of one processor, and one inside of it."""
    if os.geteuid() or not (CGROUP_V1 / "cpu.cfs_quota_us").exists():
        pytest.skip("needs root and the cpu controller of control groups version 1")
    outer = CGROUP_V1 / f"warmfork-test-{os.getpid()}"
    inner = outer / "inner"
    inner.mkdir(parents=True)
    try:
        (outer / "cpu.cfs_period_us").write_text("100000")
        (outer / "cpu.cfs_quota_us").write_text("100000")
        yield outer, inner
    finally:
        inner.rmdir()
        outer.rmdir()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors")
def test_real_quota(group):
    outer, inner = group
    unlimited = run(COUNTS)
    assert unlimited == len(os.sched_getaffinity(0))
    for where in group:
        assert run(COUNTS, lambda: (where / "cgroup.procs").write_text("0")) == 1
    (outer / "cpu.cfs_quota_us").write_text("-1")
    assert run(COUNTS, lambda: (inner / "cgroup.procs").write_text("0")) == unlimited


def test_affinity_counts():
    one = {min(os.sched_getaffinity(0))}
    assert run(COUNTS, lambda: os.sched_setaffinity(0, one)) == 1


BLAS = """
import json, os
import numpy, threadpoolctl
from warmfork import ForkExecutor, _cpus

def threads():
    return sorted((t["internal_api"], t["num_threads"]) for t in threadpoolctl.threadpool_info())

def in_worker():
    before = len(os.listdir("/proc/self/task"))
    a = numpy.ones((600, 600))
    assert (a @ a == 600).all()
    asked = {k: v for k, v in os.environ.items() if k.endswith("_NUM_THREADS")}
    return before, len(os.listdir("/proc/self/task")), threads(), asked

if SETTING:
    threadpoolctl.threadpool_limits(SETTING)
numpy.ones((600, 600)) @ numpy.ones((600, 600))
before = threads()
with ForkExecutor(WORKERS) as executor:
    worker = executor.submit(in_worker).result()
print(json.dumps({"before": before, "after": threads(), "worker": worker,
                  "environ": [k for k in os.environ if k.endswith("_NUM_THREADS")]}))
"""


def blas(workers, setting=None):
    pytest.importorskip("threadpoolctl")
    pytest.importorskip("numpy")
    return run(BLAS.replace("WORKERS", str(workers)).replace("SETTING", str(setting)))


def counts(infos):
    return {n for _, n in infos}


def test_blas_threads_of_many_workers():
    found = blas(4 * len(os.sched_getaffinity(0)))
    before, after, infos, asked = found["worker"]
    assert infos and counts(infos) == {1}
    assert before == after == 1, "a worker has no threads, and BLAS starts none in it"
    assert set(asked.values()) == {"1"} and "OMP_NUM_THREADS" in asked
    assert found["before"] == found["after"] and found["environ"] == [], "the parent's settings are its own"


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors")
def test_blas_threads_of_one_worker():
    found = blas(1)
    assert counts(found["worker"][2]) == counts(found["before"]), "one worker has the whole machine"


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors")
def test_blas_threads_are_never_raised():
    found = blas(1, setting=1)
    assert counts(found["worker"][2]) == counts(found["before"]) == counts(found["after"]) == {1}


def test_default_is_what_is_counted():
    with ForkExecutor() as executor:
        assert executor.stats().max_workers == _cpus.cpu_count()
