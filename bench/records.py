"""Results as JSON lines: what the machine is, how they are written, found and read back."""

import datetime
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"


def _first_match(path, pattern):
    try:
        match = re.search(pattern, Path(path).read_text(), re.MULTILINE)
    except OSError:
        return None
    return match.group(1).strip() if match else None


def _git(*args):
    done = subprocess.run(["git", "-C", str(ROOT), *args], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def _packages(python):
    code = (
        "import importlib.metadata as m, json\n"
        "names = 'numpy', 'scipy', 'pandas', 'scikit-learn'\n"
        "have = {d.metadata['Name']: d.version for d in m.distributions()}\n"
        "print(json.dumps({n: have.get(n) for n in names}))"
    )
    done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    return json.loads(done.stdout) if done.returncode == 0 else {}


def machine(python):
    """The record that opens a run: everything that its figures depend on and that we know."""
    version = subprocess.run([python, "-VV"], capture_output=True, text=True).stdout.strip()
    status = _git("status", "--porcelain", "--untracked-files=no", "--", "src", "python", "meson.build")
    return {
        "kind": "machine",
        "host": platform.node(),
        "cpu": _first_match("/proc/cpuinfo", r"^model name\s*: (.*)$") or platform.machine(),
        "arch": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mb": int(_first_match("/proc/meminfo", r"^MemTotal:\s*(\d+)") or 0) // 1024,
        "virtual": bool(re.search(r"^flags.*\bhypervisor\b", Path("/proc/cpuinfo").read_text(), re.MULTILINE)),
        "kernel": platform.release(),
        "thp": _first_match("/sys/kernel/mm/transparent_hugepage/enabled", r"\[(\w+)\]"),
        "libc": " ".join(platform.libc_ver()),
        "python": version,
        "packages": _packages(python),
        "commit": _git("rev-parse", "--short=12", "HEAD"),
        "modified": bool(status),
        "load": os.getloadavg()[0],
    }


def now():
    return datetime.datetime.now(datetime.timezone.utc)


def default_path():
    host = re.sub(r"[^A-Za-z0-9_.-]", "_", platform.node()) or "host"
    return RESULTS / f"{now():%Y-%m-%d}-{host}.jsonl"


class Writer:
    """Appends records to a file, each stamped with the run they belong to.

    A line is written as soon as it is known, so that a run that is cut short keeps what it had.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.run = now().strftime("%Y-%m-%dT%H:%M:%SZ")
        self.records = []
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, record):
        record = {"run": self.run, **record}
        self.records.append(record)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        return record


def all_of(path):
    """The records of a file."""
    records = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                records.append(json.loads(line))
            except ValueError as error:
                sys.exit(f"{path}:{number}: {error}")
    return records


def load(path, run=None, kind=None):
    """The records of one run in a file: of `run`, or of the last one (that measured `kind`, when that is given, for
    bench/run.py and bench/terminal.py write to one file)."""
    records = all_of(path)
    runs = [r["run"] for r in records if kind in (None, r["kind"])]
    if not runs:
        sys.exit(f"{path}: no records" + (f" of kind {kind}" if kind else ""))
    run = run or runs[-1]
    chosen = [r for r in records if r["run"] == run]
    if not chosen:
        sys.exit(f"{path}: no run {run}; it has {', '.join(sorted({r['run'] for r in records}))}")
    return chosen


def latest_path(directory=RESULTS, kind=None):
    """The result file with the newest run (that measured `kind`, when that is given), or None."""
    found = []
    for path in directory.glob("*.jsonl"):
        runs = [r["run"] for r in all_of(path) if kind in (None, r["kind"])]
        if runs:
            found.append((max(runs), path))
    return max(found)[1] if found else None


def newest(records, kind, *key):
    """The records of one kind, of those with equal fields `key` the last; in the order of the first ones."""
    found = {}
    for r in pick(records, kind):
        found[tuple(r[k] for k in key)] = r
    return list(found.values())


def pick(records, kind, **fields):
    """The records of one kind whose fields have the given values."""
    return [r for r in records if r["kind"] == kind and all(r.get(k) == v for k, v in fields.items())]


def quantiles(values_ns):
    """A summary of samples in nanoseconds, as microseconds; nearest-rank quantiles."""
    ordered = sorted(values_ns)
    last = len(ordered) - 1

    def at(q):
        return round(ordered[min(last, int(q * len(ordered)))] / 1000, 1)

    return {
        "n": len(ordered),
        "min": at(0.0),
        "p10": at(0.10),
        "p50": at(0.50),
        "p90": at(0.90),
        "p99": at(0.99),
        "max": round(ordered[-1] / 1000, 1),
        "mean": round(sum(ordered) / len(ordered) / 1000, 1),
    }


def time_text(us):
    """Microseconds for people, with three digits."""
    if us < 995:
        return f"{us:.0f} µs"
    if us < 995000:
        ms = us / 1000
        return f"{ms:.2f} ms" if ms < 9.95 else f"{ms:.1f} ms" if ms < 99.5 else f"{ms:.0f} ms"
    return f"{us / 1e6:.2f} s"
