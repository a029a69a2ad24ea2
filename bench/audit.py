#!/usr/bin/env python3
"""Measures what an audit costs: `.venv/bin/python bench/audit.py [--quick] [--objects N] [--output FILE]`.

The kernel's probes alone, and whole audits of a process with many objects (and of that process when its heap is
frozen, which takes longer: what the collector does not show must be walked to). Fails when the probes take more than
1 ms or the audit of 1,000,000 objects more than 150 ms, at the median. Appends JSON lines to bench/results/audit/.
"""

import argparse
import gc
import os
import sys
import time

import records

LIMIT_PROBES_US = 1000
LIMIT_AUDIT_US = 150_000


class Thing:
    """One of many, with a list, a dict and a tuple."""

    def __init__(self, number, before):
        self.links = [before]
        self.pair = (before, self.links)
        self.table = {"number": number, "before": before}


def make_objects(count):
    things, before = [], None
    while len(gc.get_objects()) < count:
        for number in range(10_000):
            before = Thing(number, before)
            things.append(before)
        gc.collect()
    return things


def timed(function, rounds):
    samples = []
    for _ in range(rounds):
        start = time.perf_counter_ns()
        function()
        samples.append(time.perf_counter_ns() - start)
    return records.quantiles(samples)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--output", help="JSON lines are appended here")
    options = parser.parse_args()
    import warmfork
    from warmfork import _audit

    writer = records.Writer(options.output or records.RESULTS / "audit" / records.default_path().name)
    writer.add(records.machine(sys.executable))
    rounds = 5 if options.quick else 25
    failed = False

    def measure(name, function, rounds, limit=None, **more):
        nonlocal failed
        summary = writer.add({"kind": "audit", "what": name, **more, **timed(function, rounds)})
        over = limit is not None and summary["p50"] > limit
        failed = failed or over
        told = f"limit {limit / 1000:g} ms{': TOO SLOW' if over else ''}" if limit else ""
        print(f"{name:<28} p50 {summary['p50'] / 1000:9.2f} ms  p90 {summary['p90'] / 1000:9.2f} ms  {told}")

    measure("probes", _audit.look, rounds * 40, LIMIT_PROBES_US, descriptors=len(os.listdir("/proc/self/fd")))
    measure("audit, bare interpreter", warmfork.audit, rounds)
    things = make_objects(options.objects)
    count = len(gc.get_objects())
    limit = LIMIT_AUDIT_US if options.objects <= 1_000_000 else None  # a little more are measured
    measure(f"audit, {count} objects", warmfork.audit, rounds, limit, objects=count)
    gc.freeze()
    measure(f"audit, {count} objects frozen", warmfork.audit, rounds, objects=count)
    del things
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
