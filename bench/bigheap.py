"""Fills the heap with Python objects of the common small kinds, until the process has grown by some size.

    python bigheap.py MEGABYTES RAWLOOP_SO ROUNDS      under plain python: fill, then time the bare fork loop

As the init section of a named zygote it fills the heap and leaves it to the run section, with the size taken
from $WARMFORK_BENCH_HEAP_MB.
"""

import gc
import os
import sys


def resident_mb():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20


def fill(megabytes):
    """A list of records: a dictionary with a string, a float, a tuple and an int each, all their own."""
    collecting = gc.isenabled()
    gc.disable()
    goal = resident_mb() + megabytes
    records = []
    while resident_mb() < goal:
        first = len(records)
        records += [
            {"id": i + 1000, "name": f"record {i}", "value": i / 7, "place": (i, i + 1.5)}
            for i in range(first, first + 2000)
        ]
    if collecting:
        gc.enable()
    return records


if __name__ == "__main__" and len(sys.argv) == 4:
    import json

    import rawloop

    heap = fill(int(sys.argv[1]))
    gc.freeze()
    before = rawloop.memory()
    print(json.dumps({"memory": before, "ns": rawloop.loop(sys.argv[2], int(sys.argv[3]))}))
    sys.stdout.flush()
    os._exit(0)  # to free a gigabyte object by object proves nothing
elif "WARMFORK_BENCH_HEAP_MB" in os.environ:
    heap = fill(int(os.environ["WARMFORK_BENCH_HEAP_MB"]))
