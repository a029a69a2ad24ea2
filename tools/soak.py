#!/usr/bin/env python3
"""Many runs, looking for what builds up: `make soak`, or .venv/bin/python tools/soak.py [--runs N] [--side-by-side N].

Runs short programs through warmpy, several at a time, with a preload and without: such that exit with a status, die of
a signal, fork a child or write much. Checks each one's status and output. Every tenth of the way it notes what daemon
and zygotes hold: processes, descriptors, zombies, private memory. Fails when a run went wrong, something grew, or a
process is left after `warmctl stop`.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "system"))

import procs  # noqa: E402  (tests/system is not a package)

PROGRAMS = (
    ("print(6 * 7)", 0, b"42\n"),
    ("import sys; sys.exit(3)", 3, b""),
    ("import os; os.kill(os.getpid(), 15)", -signal.SIGTERM, b""),
    ("import os\nif os.fork(): os.wait()\nelse: os._exit(5)", 0, b""),
    ("import os; os._exit(9)", 9, b""),
    ("print('x' * 100000)", 0, b"x" * 100000 + b"\n"),
)
PRELOADS = ("", "json,decimal,threading")
MEMORY_SLACK_KB = 2048  # allocators need a while to settle
LEAVE_S = 10


class Held(NamedTuple):
    """What the daemon and its zygotes hold: all of their processes; the rest without the standby workers."""

    processes: int
    fds: int
    zombies: int
    private_kb: int


def read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # the process has ended meanwhile
        return ""


def descendants(pid: int) -> list[int]:
    children = [int(c) for c in read(Path(f"/proc/{pid}/task/{pid}/children")).split()]
    return children + [g for c in children for g in descendants(c)]


class Soak:
    def __init__(self, bin_dir: Path, directory: str) -> None:
        self.warmpy, self.warmctl = str(bin_dir / "warmpy"), str(bin_dir / "warmctl")
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("WARMFORK_", "PYTHON"))}
        self.env |= {"WARMFORK_RUNTIME_DIR": directory, "WARMFORK_PYTHON": str(bin_dir / "python")}
        self.log = Path(directory) / "daemon.log"
        self.lock = threading.Lock()
        self.next = 0
        self.cold = 0
        self.faults: list[str] = []

    def work(self, until: int) -> None:
        """One of the callers: takes the next run until there is none left, or something went wrong."""
        while True:
            with self.lock:
                number = self.next
                if number >= until or self.faults:
                    return
                self.next += 1
            code, status, out = PROGRAMS[number % len(PROGRAMS)]
            env = self.env | {"WARMFORK_PRELOAD": PRELOADS[number // len(PROGRAMS) % len(PRELOADS)]}
            with subprocess.Popen([self.warmpy, "-c", code], env=env, stdout=-1, stderr=subprocess.STDOUT) as run:
                assert run.stdout
                got = run.stdout.read()
                os.waitid(os.P_PID, run.pid, os.WEXITED | os.WNOWAIT)
                warm = read(Path(f"/proc/{run.pid}/comm")).strip() == "warmpy"  # else it became python
            with self.lock:
                self.cold += not warm
                if (run.returncode, got) != (status, out):
                    self.faults.append(f"run {number}, {code!r}: status {run.returncode}, output {got!r:.300}")

    def run(self, count: int, callers: int) -> None:
        threads = [threading.Thread(target=self.work, args=(self.next + count,)) for _ in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def control(self, *args: str, preload: str = "") -> str:
        env = self.env | {"WARMFORK_PRELOAD": preload}
        return subprocess.run([self.warmctl, *args], env=env, capture_output=True, text=True, check=True).stdout

    def held(self) -> Held:
        daemon = int(self.log.read_text().split("daemon[")[1].split("]")[0])
        family = [daemon, *descendants(daemon)]
        lasting = [daemon] + [p for p in family if descendants(p)]
        zombies = sum(read(Path(f"/proc/{p}/stat")).rpartition(")")[2].split()[:1] == ["Z"] for p in family)
        private = 0
        for pid in set(lasting):
            for line in read(Path(f"/proc/{pid}/smaps_rollup")).splitlines():
                if line.startswith("Private_Dirty"):
                    private += int(line.split()[1])
        return Held(len(family), sum(len(os.listdir(f"/proc/{p}/fd")) for p in set(lasting)), zombies, private)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=int, default=100000, help="default: %(default)s")
    parser.add_argument("--side-by-side", type=int, default=4, help="callers at a time (default: %(default)s)")
    parser.add_argument("--bin", type=Path, default=ROOT / ".venv" / "bin", help="where warmpy is")
    options = parser.parse_args()

    directory = tempfile.mkdtemp(prefix="wfsoak-")
    soak = Soak(options.bin.absolute(), directory)
    notes: list[Held] = []
    begin = time.monotonic()
    try:
        for preload in PRELOADS:
            soak.control("warm", preload=preload)
        for _ in range(10):
            soak.run(options.runs // 10, options.side_by_side)
            notes.append(soak.held())
            rate = soak.next / (time.monotonic() - begin)
            print(f"{soak.next:8} runs  {soak.cold} cold  {rate:6.0f}/s  {notes[-1]}", flush=True)
            if soak.faults:
                break
    finally:
        soak.control("stop")
        left = procs.wait_gone(procs.belonging_to(directory), LEAVE_S)
        soak.faults += [f"left after warmctl stop: {procs.describe(pid)}" for pid in left]
        shutil.rmtree(directory, ignore_errors=True)
    first, last = notes[0], notes[-1]  # the first tenth is for warming up
    if soak.cold > soak.next // 100:
        soak.faults.append(f"{soak.cold} of {soak.next} runs were cold, although a zygote was ready")
    if last.fds > first.fds + 2 * options.side_by_side:
        soak.faults.append(f"descriptors: {first.fds} → {last.fds}")
    if last.processes > first.processes + 2 * options.side_by_side:  # what replaces a worker and what ends overlap
        soak.faults.append(f"processes: {first.processes} → {last.processes}")
    if last.zombies > options.side_by_side:
        soak.faults.append(f"{last.zombies} zombies")
    if last.private_kb > first.private_kb + MEMORY_SLACK_KB:
        soak.faults.append(f"private memory: {first.private_kb} → {last.private_kb} KB")
    for fault in soak.faults:
        print(f"soak: FAILED: {fault}", file=sys.stderr)
    return 1 if soak.faults else 0


if __name__ == "__main__":
    sys.exit(main())
