#!/usr/bin/env python3
"""Measures warmfork in a terminal: latency, and how fast output passes; see docs/benchmarks.md.

    .venv/bin/python bench/terminal.py [--rounds N] [--megabytes N] [--only latency|throughput] [--output FILE]

Appends JSON lines like bench/run.py. What is measured runs in a session of its own whose controlling terminal is a pty
that this program reads as fast as it can.
"""

import argparse
import fcntl
import json
import os
import random
import select
import sys
import tempfile
import termios
import time
from pathlib import Path

import records
from spawn import Failed
from warm import Warm

GAP_S = 0.005
ATTACH = "import os; os.open('/dev/tty', os.O_RDWR)"  # only a terminal of the program's own session can be opened so


def in_terminal(function):
    """Runs `function` in a child whose controlling terminal is a fresh pty; returns what it returns, through JSON."""
    master, slave = os.openpty()
    answer, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        for fd in range(3):
            os.dup2(slave, fd)
        os.close(slave)
        os.close(master)
        for fd in map(int, os.listdir("/proc/self/fd")):  # what we were started with is not for what is measured
            if fd > 2 and os.path.exists(f"/proc/self/fd/{fd}"):
                os.set_inheritable(fd, False)
        os.write(tell, json.dumps(function()).encode())
        os._exit(0)
    os.close(slave)
    os.close(tell)
    text = b""
    while True:
        ready, _, _ = select.select([master, answer], [], [])
        if master in ready:
            try:
                os.read(master, 1 << 20)
            except OSError:  # nobody has it open any more
                text += os.read(answer, 1 << 26)
                break
        elif answer in ready:
            piece = os.read(answer, 1 << 20)
            text += piece
            if not piece:
                break
    os.close(master)
    os.close(answer)
    os.waitpid(child, 0)
    if not text:
        raise Failed("the measuring process died")
    return json.loads(text)


def run_once(argv, env):
    started = time.perf_counter_ns()
    pid = os.posix_spawn(argv[0], argv, env)
    _, status = os.waitpid(pid, 0)
    elapsed = time.perf_counter_ns() - started
    if status:
        raise Failed(f"{' '.join(argv)}: wait status {status}")
    return elapsed


def latency(commands, rounds):
    """Samples in nanoseconds per name, all commands in turn, in random order."""

    def measure():
        samples = {name: [] for name in commands}
        for _ in range(rounds):
            for name in random.sample(list(commands), len(commands)):
                samples[name].append(run_once(*commands[name]))
                time.sleep(GAP_S)
        return samples

    return in_terminal(measure)


def throughput(commands, rounds):
    """The best of `rounds` times in nanoseconds per name, and a dot for each on standard error."""

    progress = os.dup(2)

    def measure():
        times = {name: [] for name in commands}
        for _ in range(rounds):
            for name in commands:
                times[name].append(run_once(*commands[name]))
                os.write(progress, b".")
        os.write(progress, b"\n")
        return {name: min(values) for name, values in times.items()}

    return in_terminal(measure)


def measure_latency(writer, warm, options):
    env = warm.env()
    commands = {
        "true": (["/bin/true"], env),
        "warmpy, untouched terminal": ([options.warmpy, "-c", "pass"], env),
        "warmpy, asks": ([options.warmpy, "-c", "import os; os.tcgetpgrp(0)"], env),
        "warmpy, terminal of its own": ([options.warmpy, "-c", ATTACH], env),
        "python3": ([options.python, "-c", "pass"], env),
    }
    before = warm.served("")
    samples = latency(commands, options.rounds)
    warm.check_served(before + 3 * options.rounds, "")
    unit = records.quantiles(samples["true"])["p50"]
    for name, values in samples.items():
        summary = records.quantiles(values)
        writer.add({"kind": "terminal", "name": name, "gap_ms": GAP_S * 1000, "unit": "us", **summary,
                    "ratio_p50": round(summary["p50"] / unit, 3)})
        print(f"{name:28} p50 {summary['p50']:8.0f} us   p90 {summary['p90']:8.0f} us   "
              f"{summary['p50'] / unit:6.2f} x /bin/true")


def measure_throughput(writer, warm, options):
    with tempfile.NamedTemporaryFile(prefix="wfbench-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as file:
        line = b"a line of ordinary length, as programs print them to a terminal, with a number: "
        count = (options.megabytes << 20) // (len(line) + 10)
        for start in range(0, count, 10000):
            file.write(b"".join(line + b"%09d\n" % n for n in range(start, min(count, start + 10000))))
        file.flush()
        env = warm.env()
        cat = f"import subprocess; subprocess.run(['/bin/cat', {file.name!r}])"
        times = throughput({
            "cat": (["/bin/cat", file.name], env),
            "warmpy, cat": ([options.warmpy, "-c", cat], env),
            "warmpy, its own output": ([options.warmpy, "-c", f"import os\nf = open({file.name!r}, 'rb')\n"
                                        "while data := f.read(131072): os.write(1, data)"], env),
        }, options.passes)
        size = os.path.getsize(file.name)
        for name, elapsed in times.items():
            share = times["cat"] / elapsed
            writer.add({"kind": "terminal_throughput", "name": name, "bytes": size, "seconds": round(elapsed / 1e9, 3),
                        "mb_per_s": round(size / elapsed * 1e3, 1), "share_of_plain": round(share, 3)})
            print(f"{name:28} {size / elapsed * 1e3:8.0f} MB/s   {share:6.2f} of the plain terminal")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--warmpy", default=str(Path(sys.executable).with_name("warmpy")))
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--passes", type=int, default=2, help="of the throughput")
    parser.add_argument("--only", choices=("latency", "throughput"))
    parser.add_argument("--output")
    options = parser.parse_args()
    options.python = os.path.abspath(options.python)  # not what a venv is made from: that has other modules
    writer = records.Writer(options.output or records.default_path())
    writer.add(records.machine(options.python))
    with Warm(options.python, options.warmpy) as warm:
        warm.warm("")
        if options.only != "throughput":
            measure_latency(writer, warm, options)
        if options.only != "latency":
            measure_throughput(writer, warm, options)


if __name__ == "__main__":
    main()
