#!/usr/bin/env python3
"""Measures warmfork against the empty program, /bin/true and python3; see docs/benchmarks.md.

    .venv/bin/python bench/run.py [--quick] [--only SECTION,…] [--output FILE] [--no-picture]

Appends one JSON line per figure to bench/results/<date>-<host>.jsonl and draws docs/img/bench.svg from them. A figure
whose warm runs were not all served warm is refused, and the exit status is then 1.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import records
import spawn
from spawn import Command, Failed
from warm import Warm, clean_environment

PRELOADS = {"nothing": "", "pandas": "pandas", "scikit-learn": "sklearn,scipy,pandas"}
TRUE = "/bin/true"
HEAP_MB = 1024


class Bench:
    """What all sections share."""

    def __init__(self, options, writer):
        self.python = options.python
        self.warmpy = options.warmpy
        self.quick = options.quick
        self.also = options.also
        self.writer = writer
        self.failures = []
        self.preloads = {n: p for n, p in PRELOADS.items() if self.importable(p)}

    def importable(self, preload):
        if not preload:
            return True
        done = subprocess.run([self.python, "-c", f"import {preload}"], capture_output=True, text=True)
        if done.returncode:
            reason = done.stderr.strip().splitlines()[-1]
            self.fail(f"preload {preload}: {reason} ({self.python} -m pip install pandas scikit-learn)")
        return done.returncode == 0

    def fail(self, text):
        print(f"bench: REFUSED: {text}", file=sys.stderr)
        self.failures.append(text)

    def warm(self):
        return Warm(self.python, self.warmpy)

    def warmed(self, warm, preload):
        """Makes a zygote ready; False (and noted) where it is not what was asked for, so that the others go on."""
        try:
            warm.warm(preload)
        except Failed as error:
            self.fail(str(error))
            return False
        return True

    def timed(self, warm, commands, gap_ms, rounds):
        """Runs the commands interleaved; every run of a warm one must have been served by its zygote."""
        before = {c.preload: warm.served(c.preload) for c in commands if c.preload is not None}
        samples, elapsed = spawn.run(commands, gap_ms, rounds, warm.directory)
        for preload, count in before.items():
            warm.check_served(count + rounds, preload)
        return samples, elapsed

    def json_of(self, argv, env):
        """What a helper program printed as JSON."""
        done = subprocess.run(argv, env=env, capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"{' '.join(argv)}: exit status {done.returncode}: {done.stderr.strip()[-300:]}")
        return json.loads(done.stdout)


def measure_spawn(bench):
    """One run of each program, at three gaps, all interleaved."""
    plan = {5: 60, 0: 100, 50: 10} if bench.quick else {5: 500, 0: 800, 50: 120}
    with bench.warm() as warm:
        commands = [
            Command("empty", [spawn.build("empty")], clean_environment()),
            Command("true", [TRUE], clean_environment()),
            Command("python3", [bench.python, "-c", "pass"], clean_environment()),
        ]
        for name, preload in bench.preloads.items():
            if bench.warmed(warm, preload):
                commands.append(warm.command(f"warmpy {name}", preload, ["-c", "pass"]))
        for name, _, text in (a.partition("=") for a in bench.also):
            commands.append(Command(name, shlex.split(text), dict(os.environ)))
        bench.timed(warm, commands, 5, 10)
        for gap, rounds in plan.items():
            samples, _ = bench.timed(warm, commands, gap, rounds)
            true = records.quantiles(samples["true"])
            for command in commands:
                summary = records.quantiles(samples[command.name])
                ratios = {f"ratio_{q}": round(summary[q] / true[q], 3) for q in ("p50", "p90", "p99")}
                record = {"kind": "spawn", "command": command.name, "gap_ms": gap, **summary, **ratios}
                print_spawn(bench.writer.add(record))


def print_spawn(r):
    times = " ".join(f"{r[q]:>9.0f}" for q in ("p50", "p90", "p99"))
    ratios = " ".join(f"{r[f'ratio_{q}']:>6.2f}" for q in ("p50", "p90", "p99"))
    print(f"gap {r['gap_ms']:>2} ms  {r['command']:<20} {times} µs   × true {ratios}", flush=True)


def measure_sustained(bench):
    """Runs per second back to back, against the bare fork loop on the same heap."""
    rounds = 300 if bench.quick else 2000
    library = spawn.build("rawloop.so")
    script = str(records.ROOT / "bench" / "rawloop.py")
    for name, preload in bench.preloads.items():
        with bench.warm() as warm:
            if not bench.warmed(warm, preload):
                continue
            command = warm.command("warm", preload, ["-c", "pass"])
            bench.timed(warm, [command], 0, 50)
            raw = raw_loops(bench, warm, preload, [library, str(rounds)], script)
            _, elapsed = bench.timed(warm, [command], 0, rounds)
            rate = rounds / elapsed * 1e9
            best = max(raw.values(), key=lambda r: r["per_s"])
            record = {"kind": "sustained", "preload": name, "rounds": rounds, "warm_per_s": round(rate)}
            record.update(raw_per_s=best["per_s"], ratio=round(rate / best["per_s"], 3), raw=raw)
            bench.writer.add(record)
        print(f"sustained  warmpy {name:<13} {rate:6.0f}/s   raw loop {best['per_s']:6.0f}/s   "
              f"ratio {record['ratio']:.2f}", flush=True)


def raw_loops(bench, warm, preload, args, script):
    """The bare loop in a worker (the zygote's own heap), and in plain pythons with the same imports."""
    served = warm.served(preload)
    plain = clean_environment()
    found = {
        "worker": bench.json_of([bench.warmpy, script, *args], warm.preload_env(preload)),
        "plain": bench.json_of([bench.python, script, *args, preload], plain),
        "plain, huge malloc": bench.json_of(
            [bench.python, script, *args, preload], {**plain, "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
        ),
    }
    warm.check_served(served + 1, preload)
    for result in found.values():
        samples = result.pop("ns")
        result["per_s"] = round(len(samples) / sum(samples) * 1e9)
        result["p50"] = records.quantiles(samples)["p50"]
        result.pop("missing")
    return found


def rollup(pid):
    fields = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split()[:2]
        fields[name.rstrip(":")] = int(value)
    return fields


def measure_memory(bench):
    """Private memory of each standby worker, and of its zygote."""
    with bench.warm() as warm:
        for name, preload in bench.preloads.items():
            if not bench.warmed(warm, preload):
                continue
            bench.timed(warm, [warm.command("warm", preload, ["-c", "pass"])], 20, 20)
            standbys = warm.standbys(preload)
            if not standbys:
                raise Failed(f"preload {name}: no standby worker found")
            private = [r["Private_Dirty"] + r["Private_Clean"] for r in map(rollup, standbys)]
            zygote = rollup(warm.zygote(preload)["pid"])
            record = {"kind": "memory", "preload": name, "standbys": len(private), "private_kb": sorted(private)}
            record.update(worst_kb=max(private), zygote_rss_kb=zygote["Rss"], zygote_pss_kb=zygote["Pss"])
            record.update(zygote_huge_kb=zygote["AnonHugePages"])
            bench.writer.add(record)
            print(f"memory     warmpy {name:<13} private per standby {max(private) / 1024:.2f} MB "
                  f"(of {len(private)}), zygote {zygote['Rss'] / 1024:.0f} MB", flush=True)


def measure_fork(bench):
    """fork + exit + wait with a gigabyte of Python objects: python's own heap, and a zygote's."""
    rounds = 20 if bench.quick else 100
    script = str(records.ROOT / "bench" / "bigheap.py")
    loop = str(records.ROOT / "bench" / "rawloop.py")
    library = spawn.build("rawloop.so")

    def report(label, result):
        record = {"kind": "fork", "heap": label, "heap_mb": HEAP_MB, **result["memory"]}
        record.update(records.quantiles(result["ns"]))
        bench.writer.add(record)
        p50, p90 = (records.time_text(record[q]) for q in ("p50", "p90"))
        huge = record["huge_kb"] // 1024
        print(f"fork       {HEAP_MB} MB, {label:<8} p50 {p50}, p90 {p90} ({huge} MB in huge pages)",
              flush=True)

    report("python3", bench.json_of([bench.python, script, str(HEAP_MB), library, str(rounds)], clean_environment()))
    with bench.warm() as warm:
        env = warm.env(WARMFORK_BENCH_HEAP_MB=str(HEAP_MB))
        warm.control("start", "bench-heap", "--init", script, env=env)
        served = warm.served("", "bench-heap")
        result = bench.json_of([bench.warmpy, loop, library, str(rounds)], {**env, "WARMFORK_ZYGOTE": "bench-heap"})
        warm.check_served(served + 1, "", "bench-heap")
        if result["memory"]["rss_kb"] < HEAP_MB * 1000:
            raise Failed(f"the zygote's heap has {result['memory']['rss_kb'] // 1024} MB, not {HEAP_MB}")
        report("warmfork", result)


def measure_first(bench):
    """The very first run: nothing warm, no daemon, an empty runtime directory; against python3 in turn."""
    rounds = 4 if bench.quick else 15
    samples = {"python3": [], "warmpy, first ever": [], "warmpy, second": []}
    for _ in range(rounds):
        with bench.warm() as warm:
            python = Command("python3", [bench.python, "-c", "pass"], clean_environment())
            first = Command("warmpy, first ever", [bench.warmpy, "-c", "pass"], warm.env())
            second = Command("warmpy, second", [bench.warmpy, "-c", "pass"], warm.env())
            for command in (python, first):
                samples[command.name] += spawn.run([command], 0, 1, warm.directory)[0][command.name]
            warm.warm("")
            samples[second.name] += spawn.run([second], 0, 1, warm.directory)[0][second.name]
    python = records.quantiles(samples["python3"])["p50"]
    for name, values in samples.items():
        record = {"kind": "first", "command": name, **records.quantiles(values)}
        record["ratio_python"] = round(record["p50"] / python, 3)
        bench.writer.add(record)
        print(f"first run  {name:<20} p50 {record['p50'] / 1000:6.2f} ms   × python3 {record['ratio_python']:.2f}",
              flush=True)


def measure_imports(bench):
    """A script that imports pandas (and scikit-learn), run by python3 and by warmpy."""
    rounds = 2 if bench.quick else 8
    with bench.warm() as warm:
        for name, preload in bench.preloads.items():
            if not preload or not bench.warmed(warm, preload):
                continue
            code = f"import {preload}"
            cold = Command("python3", [bench.python, "-c", code], clean_environment())
            hot = warm.command("warmpy", preload, ["-c", code])
            bench.timed(warm, [cold, hot], 5, 1)
            samples, _ = bench.timed(warm, [cold, hot], 5, rounds)
            for command in (cold, hot):
                record = {"kind": "import", "command": command.name, "preload": name, "code": code}
                bench.writer.add({**record, **records.quantiles(samples[command.name])})
            medians = [records.quantiles(samples[c.name])["p50"] / 1000 for c in (cold, hot)]
            print(f"import     {name:<20} python3 {medians[0]:7.1f} ms   warmpy {medians[1]:6.2f} ms   "
                  f"{medians[0] / medians[1]:.0f} × faster", flush=True)


SECTIONS = {
    "spawn": measure_spawn,
    "sustained": measure_sustained,
    "memory": measure_memory,
    "fork": measure_fork,
    "first": measure_first,
    "imports": measure_imports,
}


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    venv = records.ROOT / ".venv" / "bin"
    parser.add_argument("--quick", action="store_true", help="a minute instead of five; p99 means little then")
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, comma separated: %(default)s")
    parser.add_argument("--output", help="result file (default: bench/results/<date>-<host>.jsonl)")
    parser.add_argument("--no-picture", action="store_true", help="do not draw docs/img/bench.svg")
    parser.add_argument("--python", default=str(venv / "python"), help="the interpreter (default: %(default)s)")
    parser.add_argument("--warmpy", default=str(venv / "warmpy"), help="the client (default: %(default)s)")
    parser.add_argument("--also", action="append", default=[], metavar="NAME=COMMAND",
                        help="time this program too, in turn with the others (a peer; argv[0] must be a path)")
    options = parser.parse_args(argv)
    options.sections = [s for s in options.only.split(",") if s]
    for section in options.sections:
        if section not in SECTIONS:
            parser.error(f"no section '{section}'; there are {', '.join(SECTIONS)}")
    for path in (options.python, options.warmpy):
        if not os.access(path, os.X_OK):
            parser.error(f"{path}: not an executable file (make build?)")
    options.warmpy = os.path.abspath(options.warmpy)
    options.python = os.path.abspath(options.python)
    return options


def main(argv=None):
    options = parse(argv)
    if not shutil.which("cc"):
        sys.exit("bench: no C compiler (cc) on PATH")
    writer = records.Writer(options.output or records.default_path())
    machine = writer.add({**records.machine(options.python), "quick": options.quick})
    print(f"{machine['cpu']}, {machine['cores']} CPUs, Linux {machine['kernel']}, {machine['python'].split(' (')[0]}, "
          f"commit {machine['commit']}{' + changes' if machine['modified'] else ''}, load {machine['load']:.1f}")
    if machine["load"] > 0.5:
        print(f"bench: the machine is busy (load {machine['load']:.1f}), and warm runs suffer most from that:"
              " two processes must be awake", file=sys.stderr)
    bench = Bench(options, writer)
    started = time.monotonic()
    for section in options.sections:
        try:
            SECTIONS[section](bench)
        except (Failed, OSError, ValueError, KeyError, subprocess.TimeoutExpired) as error:
            bench.fail(f"{section}: {type(error).__name__}: {error}")
    print(f"{len(writer.records)} records in {writer.path} after {time.monotonic() - started:.0f} s")
    if not options.no_picture and records.pick(writer.records, "spawn"):
        import picture

        for path in picture.draw(writer.records, records.ROOT / "docs" / "img" / "bench"):
            print(f"drew {path}")
    return 1 if bench.failures else 0


if __name__ == "__main__":
    sys.exit(main())
