#!/usr/bin/env python3
"""Measures the pool against its peers, in one run: see docs/pool.md.

    .venv/bin/python bench/pool.py [--quick] [--only SECTION,…] [--output FILE] [--no-picture]

Peers that are not installed (loky, mpire, forkqueue) are left out and named. Every section measures each pool in turn,
several times, and keeps the best: other work on the machine only makes a pool slower. Appends JSON lines to
bench/results/pool-<date>-<host>.jsonl and draws docs/img/pool.svg.
"""

import argparse
import importlib
import multiprocessing
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import records
import warmfork

WORKERS = 2
BLOCK = bytearray(50_000_000)
TASKS, ITEMS = 20_000, 200_000


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

    def mapped(self, pool, count):
        for _ in pool.map(noop, range(count)):
            pass

    def call(self, pool, function):
        return pool.submit(function, 0).result()

    def stop(self, pool):
        pool.shutdown()


class Fork(Futures):
    pass


class Standard(Futures):
    def mapped(self, pool, count):  # its chunks are one item long unless told; this is what Pool.map would choose
        for _ in pool.map(noop, range(count), chunksize=count // (4 * WORKERS)):
            pass


class Queue:
    """ForkQueue, and the module that it is named after."""

    def __init__(self, make):
        self.make = make

    def one_by_one(self, pool, count):
        for _ in pool.process(noop, ((i,) for i in range(count))):
            pass

    def mapped(self, pool, count):
        for _ in pool.map(noop, range(count)):
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

    def mapped(self, pool, count):
        pool.map(noop, range(count))

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
    """The best of several rounds for each pool; the rounds are interleaved."""
    best = {}
    for _ in range(rounds):
        for name, kind in kinds.items():
            value = measure(kind)
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


def measure_map(kinds, quick):
    count = ITEMS // 10 if quick else ITEMS
    some = {n: k for n, k in kinds.items() if n != "forkqueue" and n != "ForkQueue"}  # these have no chunks
    best = best_of(5, lambda kind: in_pool(kind, lambda k, p: timed(k.mapped, p, count)), some)
    return {name: {"per_s": round(count / s)} for name, s in best.items()}


def measure_arrays(kinds, quick):
    def rounds(kind, pool):
        for _ in range(2):
            kind.call(pool, block)
        return min(timed(kind.call, pool, block) for _ in range(3 if quick else 10))

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

    some = {n: k for n, k in kinds.items() if n != "loky"}  # it starts interpreters: another order of magnitude
    best = best_of(3 if quick else 15, once, some)
    return {name: {"ms": round(s * 1000, 2)} for name, s in best.items()}


def measure_latency(kinds, quick):
    def trips(kind, pool):
        return statistics.median(timed(kind.call, pool, noop) for _ in range(100 if quick else 1000))

    best = best_of(1 if quick else 3, lambda kind: in_pool(kind, trips), kinds)
    return {name: {"p50_us": round(s * 1e6, 1)} for name, s in best.items()}


SECTIONS = {
    "start": measure_start,  # first: some peers leave threads behind, which our pool then asks the auditor about
    "submit": measure_submit,
    "map": measure_map,
    "arrays": measure_arrays,
    "latency": measure_latency,
}
TITLES = {
    "submit": ("no-op tasks one by one, 2 workers", "per_s", "tasks/s"),
    "map": ("map of many small ints", "per_s", "items/s"),
    "arrays": ("50 MB arrays returned", "mb_per_s", "MB/s"),
    "start": ("pool of 8: start, one task, stop", "ms", "ms (less is better)"),
    "latency": ("round trip of one task", "p50_us", "µs (less is better)"),
}


def draw(found, stem):
    try:
        import matplotlib
    except ImportError:
        print("bench: no picture: matplotlib is not installed", file=sys.stderr)
        return
    matplotlib.use("Agg")
    import picture
    from matplotlib import pyplot

    matplotlib.rcParams.update({"svg.fonttype": "path", "svg.hashsalt": "warmfork", "font.size": 9})
    sections = [s for s in TITLES if records.pick(found, "pool", section=s)]
    figure, panels = pyplot.subplots(1, len(sections), figsize=(3.4 * len(sections), 3.2), squeeze=False)
    for axes, section in zip(panels[0], sections, strict=True):
        title, field, unit = TITLES[section]
        rows = records.pick(found, "pool", section=section)
        for y, row in enumerate(rows):
            color = picture.WARM if row["pool"].startswith("Fork") else picture.EMPTY
            axes.barh(y, row[field], color=color)
            axes.text(row[field], y, f" {row[field]:,}", va="center", color=picture.INK)
        axes.set_yticks(range(len(rows)), [r["pool"] for r in rows])
        axes.invert_yaxis()
        axes.set_xlim(0, max(r[field] for r in rows) * 1.35)
        axes.set_xticks([])
        axes.set_title(title, loc="left", fontsize=10, fontweight="bold", color=picture.INK)
        axes.set_xlabel(unit, color=picture.FAINT)
        for side in ("top", "right", "bottom"):
            axes.spines[side].set_visible(False)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    load = records.pick(found, "machine")[0]["load"]
    caption = picture.caption(found, f"best of several rounds, load average {load:.1f}")
    figure.text(0.005, 0.015, caption, color=picture.FAINT, fontsize=8)
    for suffix in (".svg", ".png"):
        metadata = {"metadata": {"Date": None}} if suffix == ".svg" else {"dpi": 110}
        figure.savefig(stem.with_suffix(suffix), **metadata)
        print(f"drew {stem.with_suffix(suffix)}")
    pyplot.close(figure)


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
        _, field, unit = TITLES[section]
        figures = SECTIONS[section](kinds, options.quick)
        base = figures["ProcessPoolExecutor"][field]
        for name, figure in figures.items():
            writer.add({"kind": "pool", "section": section, "pool": name, **figure,
                        "ratio_executor": round(figure[field] / base, 3)})
            ratio = figure[field] / base
            print(f"{section:8} {name:22} {figure[field]:>12,} {unit:22} {ratio:8.2f} × executor", flush=True)
    if not options.no_picture:
        draw(writer.records, Path(records.ROOT) / "docs" / "img" / "pool")


if __name__ == "__main__":
    main()
