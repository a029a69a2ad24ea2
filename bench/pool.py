#!/usr/bin/env python3
"""Measures the pool against its peers, in one run: see docs/pool.md.

    .venv/bin/python bench/pool.py [--quick] [--only SECTION,…] [--output FILE] [--no-picture]

Peers that are not installed (bench/pool_peers.txt; `make bench-pool` installs them) are left out and named. Every
section measures each pool in turn, several times, and keeps the best: other work on the machine only makes a pool
slower. Appends JSON lines to bench/results/pools/<date>-<host>.jsonl and draws docs/img/pool.svg.
"""

import argparse
import importlib
import multiprocessing
import os
import pickle
import statistics
import sys
import time
from concurrent.futures import Future, ProcessPoolExecutor

import pool_picture
import records
import warmfork

WORKERS = 2
BLOCK = bytearray(50_000_000)
TASKS, ITEMS = 20_000, 200_000
BUDGET_S = 5  # for each pool and section; two rounds at least
GAPS = {0: 1000, 1: 300, 10: 100, 100: 20}  # milliseconds before a round trip, and how many


def optional(name):
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


loky, mpire, forkqueue, numpy = (optional(n) for n in ("loky", "mpire", "forkqueue", "numpy"))
ARRAY = numpy.zeros(len(BLOCK), numpy.uint8) if numpy else None


def noop(x=None):
    return x


def block(_):
    return ARRAY if numpy else BLOCK


class Futures:
    """Pools with the interface of concurrent.futures."""

    def __init__(self, make):
        self.make = make

    def one_by_one(self, pool, count):
        futures = [pool.submit(noop) for _ in range(count)]
        for future in futures:
            future.result()

    def mapped(self, pool, items):
        for _ in pool.map(noop, items):
            pass

    def call(self, pool, function):
        return pool.submit(function, 0).result()

    def stop(self, pool):
        pool.shutdown()


class Fork(Futures):
    pass


class Standard(Futures):
    def mapped(self, pool, items):  # its chunks are one item long unless told; this is what Pool.map would choose
        for _ in pool.map(noop, items, chunksize=len(items) // (4 * WORKERS)):
            pass


class Queue:
    """ForkQueue, and the module that it is named after."""

    def __init__(self, make):
        self.make = make

    def one_by_one(self, pool, count):
        for _ in pool.process(noop, ((i,) for i in range(count))):
            pass

    def mapped(self, pool, items):
        for _ in pool.map(noop, items):
            pass

    def call(self, pool, function):
        pool.add(function, (0,))
        (result,) = pool.results()  # not next(): forkqueue loses count of a generator that is left early
        return result

    def stop(self, pool):
        pool.finish()


class Multi:
    """multiprocessing.Pool."""

    def __init__(self, make):
        self.make = make

    def one_by_one(self, pool, count):
        for _ in pool.imap_unordered(noop, range(count), chunksize=1):
            pass

    def mapped(self, pool, items):
        pool.map(noop, items)

    def call(self, pool, function):
        return pool.apply(function, (0,))

    def stop(self, pool):
        pool.close()
        pool.join()


class Mpire(Multi):
    def one_by_one(self, pool, count):
        for _ in pool.imap_unordered(noop, range(count), chunk_size=1):
            pass

    def stop(self, pool):
        pool.stop_and_join()


def pools():
    fork = multiprocessing.get_context("fork")
    found = {
        "ForkExecutor": Fork(warmfork.ForkExecutor),
        "ForkQueue": Queue(warmfork.ForkQueue),
        "ProcessPoolExecutor": Standard(lambda n: ProcessPoolExecutor(n, mp_context=fork)),
        "multiprocessing.Pool": Multi(fork.Pool),
    }
    if loky:
        found["loky"] = Standard(loky.ProcessPoolExecutor)
    if mpire:
        found["mpire"] = Mpire(mpire.WorkerPool)
    if forkqueue:
        found["forkqueue"] = Queue(forkqueue.ForkQueue)
    return found


def best_of(rounds, measure, kinds):
    """The best of several rounds for each pool; the rounds are interleaved. A slow pool has fewer of them."""
    best, spent = {}, dict.fromkeys(kinds, 0.0)
    for n in range(rounds):
        for name, kind in kinds.items():
            if n > 1 and spent[name] > BUDGET_S:
                continue
            begin = time.perf_counter()
            value = measure(kind)
            spent[name] += time.perf_counter() - begin
            best[name] = min(value, best.get(name, value))
    return best


def timed(function, *args):
    begin = time.perf_counter()
    function(*args)
    return time.perf_counter() - begin


def in_pool(kind, function, warmup=True):
    pool = kind.make(WORKERS)
    try:
        if warmup:
            kind.one_by_one(pool, 50)
        return function(kind, pool)
    finally:
        kind.stop(pool)


def measure_submit(kinds, quick):
    count = TASKS // 10 if quick else TASKS
    best = best_of(5, lambda kind: in_pool(kind, lambda k, p: timed(k.one_by_one, p, count)), kinds)
    return {name: {"per_s": round(count / s)} for name, s in best.items()}


def measure_map(kinds, quick, make=range):
    items = make(ITEMS // 10 if quick else ITEMS)
    some = {n: k for n, k in kinds.items() if n != "forkqueue" and n != "ForkQueue"}  # these have no chunks
    best = best_of(5, lambda kind: in_pool(kind, lambda k, p: timed(k.mapped, p, items)), some)
    return {name: {"per_s": round(len(items) / s)} for name, s in best.items()}


def measure_map_list(kinds, quick):
    """Of a range we send the ends; of a list, the items."""
    return measure_map(kinds, quick, lambda count: list(range(count)))


def measure_arrays(kinds, quick):
    def rounds(kind, pool):
        for _ in range(2):
            kind.call(pool, block)
        return min(timed(kind.call, pool, block) for _ in range(3 if quick else 5))

    some = {n: k for n, k in kinds.items() if n != "forkqueue"}  # it hangs: it takes one send() to send everything
    best = best_of(1 if quick else 3, lambda kind: in_pool(kind, rounds), some)
    return {name: {"mb_per_s": round(len(BLOCK) / s / 1e6)} for name, s in best.items()}


def measure_start(kinds, quick):
    def once(kind):
        def life():
            pool = kind.make(8)
            kind.call(pool, noop)
            kind.stop(pool)

        return timed(life)

    best = best_of(3 if quick else 15, once, kinds)
    return {name: {"ms": round(s * 1000, 2)} for name, s in best.items()}


class Pipe:
    """No pool: a byte to a child and one back."""

    def __enter__(self):
        there, self.write = os.pipe()
        self.read, back = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            while os.read(there, 1) == b"x":
                os.write(back, b"x")
            os._exit(0)
        os.close(there)
        os.close(back)
        return self

    def trip(self):
        os.write(self.write, b"x")
        os.read(self.read, 1)

    def __exit__(self, *exception):
        os.write(self.write, b"q")
        os.waitpid(self.pid, 0)
        os.close(self.write)
        os.close(self.read)


def a_future():
    """No process: what a pool's caller does at least."""
    future = Future()
    future.set_running_or_notify_cancel()
    future.set_result(pickle.loads(pickle.dumps((0,), 5)))
    return future.result()


def trips(trip, quick):
    """Medians of round trips, with pauses before each in which the whole machine may sleep."""
    found = {}
    for gap_ms, count in GAPS.items():
        count = max(3, count // 10) if quick else count
        times = []
        for _ in range(count):
            if gap_ms:
                time.sleep(gap_ms / 1000)
            times.append(timed(trip))
        found["p50_us" if gap_ms == 0 else f"p50_us_{gap_ms}ms"] = round(statistics.median(times) * 1e6, 1)
    return found


def measure_latency(kinds, quick):
    found = {name: in_pool(kind, lambda k, p: trips(lambda: k.call(p, noop), quick)) for name, kind in kinds.items()}
    with Pipe() as pipe:
        found["a pipe"] = trips(pipe.trip, quick)
    found["a Future, no process"] = trips(a_future, quick)
    return found


SECTIONS = {
    "start": measure_start,  # first: some peers leave threads behind, which our pool then asks the auditor about
    "submit": measure_submit,
    "map": measure_map,
    "map_list": measure_map_list,
    "arrays": measure_arrays,
    "latency": measure_latency,
}
UNITS = {"submit": ("per_s", "tasks/s"), "map": ("per_s", "items/s"), "map_list": ("per_s", "items/s"),
         "arrays": ("mb_per_s", "MB/s"), "start": ("ms", "ms"), "latency": ("p50_us", "µs")}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, comma separated: %(default)s")
    parser.add_argument("--pools", help="pools, comma separated (default: all)")
    parser.add_argument("--output", help="result file (default: bench/results/pool-<date>-<host>.jsonl)")
    parser.add_argument("--no-picture", action="store_true", help="do not draw docs/img/pool.svg")
    options = parser.parse_args()
    default = records.default_path()
    writer = records.Writer(options.output or default.parent / "pools" / default.name)
    machine = writer.add({**records.machine(sys.executable), "quick": options.quick})
    kinds = {n: k for n, k in pools().items() if not options.pools or n in options.pools.split(",")}
    missing = [n for n, m in (("loky", loky), ("mpire", mpire), ("forkqueue", forkqueue)) if m is None]
    if missing:
        print(f"bench: not installed, left out: {', '.join(missing)}", file=sys.stderr)
    print(f"{machine['cpu']}, {machine['python'].split(' (')[0]}, load {machine['load']:.1f}")
    for section in options.only.split(","):
        field, unit = UNITS[section]
        figures = SECTIONS[section](kinds, options.quick)
        base = figures["ProcessPoolExecutor"][field]
        for name, figure in figures.items():
            writer.add({"kind": "pool", "section": section, "pool": name, **figure,
                        "ratio_executor": round(figure[field] / base, 3)})
            ratio = figure[field] / base
            more = {k: v for k, v in figure.items() if k != field} or ""
            print(f"{section:8} {name:22} {figure[field]:>12,} {unit:8} {ratio:8.3f} × executor {more}", flush=True)
    if not options.no_picture:
        pool_picture.draw(writer.records)


if __name__ == "__main__":
    main()
