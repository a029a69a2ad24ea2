#!/usr/bin/env python3
"""The main job on real input, cold and warm, side by side: `make demo`, or .venv/bin/python tools/demo.py [--runs N].

Runs examples/report.py (pandas + scikit-learn on a data set that scikit-learn ships) with python3 and with warmpy, in
turn, and compares times, outputs and exit statuses; then pyforkexec's example with an init section of its own. Uses a
runtime directory of its own and leaves nothing behind. Exits 1 when anything differs or a run was not served warm.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
PRELOAD = (
    "pandas,sklearn.datasets,sklearn.linear_model,sklearn.metrics,sklearn.model_selection,"
    "sklearn.pipeline,sklearn.preprocessing"
)
PATIENCE = 300  # seconds for a zygote to become ready, on the slowest machine


class Run(NamedTuple):
    seconds: float
    status: int  # exit code, or minus the signal
    out: bytes
    err: bytes
    warm: bool  # warmpy stayed itself; a cold run is one that became python

    @property
    def result(self) -> tuple[int, bytes, bytes]:
        return self.status, self.out, self.err


class Demo:
    def __init__(self, bin_dir: Path, directory: Path) -> None:
        self.python = str(bin_dir / "python")
        self.warmpy = str(bin_dir / "warmpy")
        self.warmctl = str(bin_dir / "warmctl")
        self.out, self.err = directory / "out", directory / "err"
        dropped = ("WARMFORK_", "PYTHON", "MAKE", "MFLAGS", "VIRTUAL_ENV")
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
        (directory / "run").mkdir(mode=0o700)
        self.env |= {"WARMFORK_RUNTIME_DIR": str(directory / "run"), "WARMFORK_PYTHON": self.python}
        self.faults: list[str] = []

    def run(self, argv: list[str], **more: str) -> Run:
        """From spawn to the end of the process; everything else happens outside of the measured time."""
        writing = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(self.out), writing, 0o600),
            (os.POSIX_SPAWN_OPEN, 2, str(self.err), writing, 0o600),
        ]
        begin = time.perf_counter()
        pid = os.posix_spawn(argv[0], argv, self.env | more, file_actions=actions)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        seconds = time.perf_counter() - begin
        warm = Path(f"/proc/{pid}/comm").read_text().strip() == "warmpy"
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return Run(seconds, status, self.out.read_bytes(), self.err.read_bytes(), warm)

    def control(self, *args: str, check: bool = True) -> str:
        done = subprocess.run([self.warmctl, *args], env=self.env, capture_output=True, text=True, timeout=PATIENCE)
        if check and done.returncode:
            sys.exit(f"demo: warmctl {' '.join(args)}: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def expect(self, condition: bool, fault: str) -> None:
        if not condition:
            self.faults.append(fault)


def duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


def first_runs(demo: Demo, script: list[str]) -> Run:
    """The first warmpy run ever, with no daemon and nothing warm, three times over; once the files are in memory."""
    reference = demo.run([demo.python, *script])
    print(reference.out.decode(), end="")
    demo.expect(reference.status == 0, f"python3 exited with {reference.status}: {reference.err.decode()}")
    cold, first = [], []
    for _ in range(3):
        cold.append(demo.run([demo.python, *script]))
        first.append(demo.run([demo.warmpy, *script], WARMFORK_PRELOAD=PRELOAD))
        demo.control("stop", check=False)
    demo.expect(all(r.result == reference.result for r in first), "a first run's output differs from python3's")
    print(f"\nfirst run, nothing warm yet:  python3 {duration(median(cold))}  warmpy {duration(median(first))}")
    return reference


def median(runs: list[Run]) -> float:
    return statistics.median(run.seconds for run in runs)


def compare(demo: Demo, script: list[str], reference: Run, runs: int) -> None:
    cold, warm = [], []
    for _ in range(runs):
        cold.append(demo.run([demo.python, *script]))
        warm.append(demo.run([demo.warmpy, *script], WARMFORK_PRELOAD=PRELOAD))
    print(f"\n  run     python3      warmpy\n{'-' * 30}")
    for number, (a, b) in enumerate(zip(cold, warm, strict=True), 1):
        print(f"{number:5}  {duration(a.seconds):>10}  {duration(b.seconds):>10}")
    slow, fast = median(cold), median(warm)
    print(f"{'-' * 30}\nmedian {duration(slow):>10}  {duration(fast):>10}   {slow / fast:.1f} times faster")

    served = sum(run.warm for run in warm)
    identical = sum(run.result == reference.result for run in cold + warm)
    print(f"served warm: {served} of {runs} warmpy runs")
    print(f"identical stdout, stderr and exit status: {identical} of {2 * runs} runs")
    demo.expect(served == runs, f"{runs - served} runs were not served warm")
    demo.expect(identical == 2 * runs, f"{2 * runs - identical} runs differ")


def init_section(demo: Demo) -> None:
    """pyforkexec's example: what the init section defined, the run section finds."""
    init, run = EXAMPLES / "helloworld-init.py", EXAMPLES / "helloworld-run.py"
    cold = demo.run([demo.python, "-c", init.read_text() + run.read_text()])
    demo.control("start", "hello", "--init", str(init))
    warm = [demo.run([demo.warmpy, str(run)], WARMFORK_ZYGOTE="hello") for _ in range(3)]
    print(f"\n$ warmctl start hello --init {init.relative_to(ROOT)}")
    print(f"$ WARMFORK_ZYGOTE=hello warmpy {run.relative_to(ROOT)}\n{warm[-1].out.decode()}", end="")
    times = f"{duration(cold.seconds)}, the run section in warmpy: {duration(median(warm))}"
    print(f"both sections in one python3: {times}")
    demo.expect(all(r.result == cold.result for r in warm), f"helloworld-run.py differs: {warm[-1]}")
    demo.expect(all(r.warm for r in warm), "helloworld-run.py was not served warm")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=int, default=7, help="runs of each kind (default: %(default)s)")
    parser.add_argument("--bin", type=Path, default=ROOT / ".venv" / "bin", help="where warmpy is")
    options = parser.parse_args()

    directory = Path(tempfile.mkdtemp(prefix="wfdemo-"))
    demo = Demo(options.bin.absolute(), directory)
    try:
        script = [str(EXAMPLES / "report.py")]
        print(f"$ python3 {Path(script[0]).relative_to(ROOT)}")
        reference = first_runs(demo, script)
        demo.control("warm", "--preload", PRELOAD)
        compare(demo, script, reference, options.runs)
        init_section(demo)
        print("\n$ warmctl status\n" + demo.control("status"), end="")
    finally:
        demo.control("stop", check=False)
        shutil.rmtree(directory, ignore_errors=True)
    for fault in demo.faults:
        print(f"demo: FAILED: {fault}", file=sys.stderr)
    return 1 if demo.faults else 0


if __name__ == "__main__":
    sys.exit(main())
