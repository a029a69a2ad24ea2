#!/usr/bin/env python3
"""Real programs under python3 and under warmpy: byte for byte the same? And how long does each take?

    .venv/bin/python bench/programs.py [--only TOOL,…] [--again] [--no-times | --times] [--seconds S] [--output FILE]

Installs the tools of tests/programs into .cache/programs (once), runs each case of tests/programs/cases.py cold, in a
bare zygote and in one with the tool's preload, and compares stdout, stderr, exit status and every file left. Then the
first case of each tool is timed, the three ways in turn, and these runs are compared as well. Appends JSON lines to
bench/results/programs and draws docs/img/programs.svg. --times does the second half alone, for the tools of --only;
with --again it takes the place of what the file's last run has of them, so that a quiet machine is needed for minutes
only. The exit status is 1 when anything differed or was not warm.
"""

import argparse
import contextlib
import os
import resource
import sys
import time

import records

sys.path.insert(0, str(records.ROOT / "tests" / "programs"))

import cases  # noqa: E402  (tests/ is not a package)
import trials  # noqa: E402
import venvs  # noqa: E402
from trials import BARE, COLD, PRELOADED  # noqa: E402

MOST_ROUNDS = 15


class Others:
    """CPU time of whatever is neither this process nor a child of it, while `with` lasts (as often as it does)."""

    def __init__(self):
        self.used = self.elapsed = 0.0

    @staticmethod
    def now():
        with open("/proc/stat", encoding="ascii") as file:
            user, nice, system, _, _, interrupts, soft = map(int, file.readline().split()[1:8])
        own = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return (user + nice + system + interrupts + soft) / os.sysconf("SC_CLK_TCK") - own, time.monotonic()

    def __enter__(self):
        self.before = self.now()

    def __exit__(self, *exception):
        used, clock = self.now()
        self.used += used - self.before[0]
        self.elapsed += clock - self.before[1]

    @property
    def cpus(self):
        return max(0.0, self.used / self.elapsed)


class Comparison:
    """All that is run for one case, compared with what python did."""

    def __init__(self, user, case):
        self.user, self.case = user, case
        self.faults = []
        self.runs = 0
        self.notes = []

    def fault(self, text):
        self.faults.append(text)
        print(f"programs: {self.case.name}: {text}", file=sys.stderr, flush=True)

    def references(self):
        """What python does, in either environment; a fault when that is not the same twice."""
        want = {how: self.user.trial(self.case, COLD, how) for how in (BARE, PRELOADED)}
        status = want[BARE].result.status
        if status != self.case.status:
            self.fault(f"python's exit status is {status} and not {self.case.status}: {want[BARE].result}")
        unlike = trials.difference(want[BARE], want[PRELOADED])
        if unlike:
            self.fault(f"python differs from itself, choose another command: {unlike}")
        self.want = want
        return want[BARE]

    def check(self, how, got):
        self.runs += 1
        if not got.result.warm:
            self.fault(f"{how}: a run was cold: {self.user.explain()}")
        unlike = trials.difference(self.want[how], got)
        if unlike:
            self.fault(f"{how}: {unlike}")

    def compare(self):
        for how in (BARE, PRELOADED):
            zygote = self.user.get_warm(self.case, how)
            self.notes += [note for note in zygote["notes"] if note not in self.notes]
            self.check(how, self.user.trial(self.case, how))

    def measure(self, seconds):
        """{how: [ns, …]} of runs in turn, for about so many seconds: at least three of each. Meanwhile, in
        `self.others`, how many CPUs everything else on the machine had: python's runs tell, which are all our own."""
        samples = {COLD: [], BARE: [], PRELOADED: []}
        others = Others()
        end = time.monotonic() + seconds
        while len(samples[COLD]) < 3 or (time.monotonic() < end and len(samples[COLD]) < MOST_ROUNDS):
            for how, found in samples.items():
                with others if how == COLD else contextlib.nullcontext():
                    got = self.user.trial(self.case, how)
                found.append(round(got.seconds * 1e9))
                if how != COLD:
                    self.check(how, got)
        self.others = others.cpus
        return samples


def record_of(comparison, reference):
    case = comparison.case
    return {
        "kind": "program",
        "tool": case.tool,
        "version": case.version,
        "what": case.what,
        "command": case.command,
        "main": case.main,
        "preload": case.preload,
        "left_out": comparison.notes,
        "status": reference.result.status,
        "out_bytes": len(reference.result.out),
        "err_bytes": len(reference.result.err),
        "files": sum(len(tree) for tree in reference.tree.values()),
        "faults": comparison.faults,
    }


def run_case(user, case, writer, options):
    """Compares, and times where it is the tool's main case. True when nothing was wrong."""
    comparison = Comparison(user, case)
    with trials.prepared(user, case):
        try:
            reference = comparison.references()
            comparison.compare()
            samples = comparison.measure(options.seconds) if case.main and not options.no_times else {}
        except AssertionError as error:  # of the harness: a hang, or a zygote that never came
            comparison.fault(str(error))
            reference, samples = user.trial(case, COLD), {}
    record = {**record_of(comparison, reference), "runs": comparison.runs}
    if samples:
        record["times"] = {how: records.quantiles(values) for how, values in samples.items()}
        record["others"] = round(comparison.others, 3)
    writer.add(record)
    print_record(record)
    return not comparison.faults


def print_record(r):
    left = f"   left out of the preload: {'; '.join(r['left_out'])}" if r["left_out"] else ""
    verdict = "DIFFERS" if r["faults"] else "same"
    line = f"{r['tool'] + ': ' + r['what']:<48} status {r['status']:>3}  {r['out_bytes'] + r['err_bytes']:>7} bytes  " \
           f"{r['files']:>5} files  {verdict}"
    if "times" in r:
        line += "   " + "  ".join(f"{records.time_text(r['times'][how]['p50']):>8}" for how in (COLD, BARE, PRELOADED))
    print(line + left, flush=True)


def run(options, writer, chosen):
    """Environment by environment: each has a user, and so a daemon, of its own."""
    good = True
    for name in dict.fromkeys(case.venv for case in chosen):
        user = trials.User(options.bin, venvs.prepare(name))
        try:
            for case in chosen:
                if case.venv == name:
                    good &= run_case(user, case, writer, options)
        except BaseException:
            user.close(check=False)
            raise
        try:
            user.close()
        except AssertionError as error:
            good = False
            print(f"programs: {name}: left behind: {error}", file=sys.stderr)
    return good


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", help="tools, comma separated (default: all)")
    parser.add_argument("--again", action="store_true", help="put what is found in the place of the file's last run's")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--no-times", action="store_true", help="compare only; nothing is drawn")
    what.add_argument("--times", action="store_true", help="only the cases that are timed")
    parser.add_argument("--seconds", type=float, default=5, help="of timing per tool (default: %(default)s)")
    parser.add_argument("--output", help="result file (default: bench/results/programs/<date>-<host>.jsonl)")
    parser.add_argument("--bin", default=str(records.ROOT / ".venv" / "bin"), help="where warmpy is")
    options = parser.parse_args(argv)
    options.bin = os.path.abspath(options.bin)
    if not os.access(os.path.join(options.bin, "warmpy"), os.X_OK):
        parser.error(f"{options.bin}: no warmpy there (make?)")
    return options


def main(argv=None):
    options = parse(argv)
    only = [tool for tool in options.only.split(",") if tool]
    chosen = [case for case in cases.CASES if not only or case.tool in only]
    unknown = set(only) - {case.tool for case in chosen}
    chosen = [case for case in chosen if case.main or not options.times]
    if unknown or not chosen:
        sys.exit(f"programs: no such tool: {', '.join(sorted(unknown))}")
    path = options.output or records.RESULTS / "programs" / records.default_path().name
    for name in dict.fromkeys(case.venv for case in chosen):
        venvs.prepare(name)
    writer = records.Writer(path)
    if options.again:
        writer.run = records.load(path)[0]["run"]
    complete = options.again or not (only or options.no_times or options.times)
    machine = writer.add({**records.machine(sys.executable), "complete": complete})
    print(f"{machine['cpu']}, {machine['cores']} CPUs, Linux {machine['kernel']}, {machine['python'].split(' (')[0]}, "
          f"commit {machine['commit']}, load {machine['load']:.1f}")
    started = time.monotonic()
    good = run(options, writer, chosen)
    found = records.pick(writer.records, "program")
    runs, wrong = sum(r["runs"] for r in found), sum(bool(r["faults"]) for r in found)
    tools = len({r["tool"] for r in found})
    print(f"{len(found)} command lines of {tools} tools, {runs} warm runs compared; something is wrong with "
          f"{wrong} of them; {time.monotonic() - started:.0f} s")
    if not options.no_times:
        import programs_picture

        for drawn in programs_picture.draw(records.load(path), records.ROOT / "docs" / "img" / "programs"):
            print(f"drew {drawn}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
