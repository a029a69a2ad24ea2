"""Times bare fork, _exit and wait in this very process, and prints the samples (ns) and the heap as JSON.

    python rawloop.py RAWLOOP_SO ROUNDS [MODULE,…]

Under plain python it imports the modules and freezes the garbage collector's objects first, as a zygote does. Under
warmpy they are there already: then this process *is* a fork of the zygote, with the zygote's own heap.
"""

import ctypes
import gc
import importlib
import json
import os
import sys


def memory():
    fields = {}
    with open("/proc/self/smaps_rollup") as file:
        next(file)
        for line in file:
            name, value, _ = line.split(maxsplit=2)
            fields[name.rstrip(":")] = int(value)
    with open("/proc/self/maps") as file:
        mappings = sum(1 for _ in file)
    return {
        "rss_kb": fields["Rss"],
        "anonymous_kb": fields["Anonymous"],
        "huge_kb": fields["AnonHugePages"],
        "mappings": mappings,
    }


def loop(library, rounds):
    """The nanoseconds of each of `rounds` forks, after a few that are not counted."""
    run = ctypes.CDLL(library).wf_rawloop_run
    run.argtypes = [ctypes.POINTER(ctypes.c_uint64), ctypes.c_int]
    run.restype = ctypes.c_int
    for count in (min(rounds, 20), rounds):
        samples = (ctypes.c_uint64 * count)()
        code = run(samples, count)
        if code:
            sys.exit(f"rawloop: fork: {os.strerror(code)}")
    return list(samples)


def main():
    library, rounds = sys.argv[1], int(sys.argv[2])
    modules = [m for m in sys.argv[3].split(",") if m] if len(sys.argv) > 3 else []
    missing = [m for m in modules if m not in sys.modules]
    for name in modules:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    before = memory()
    print(json.dumps({"missing": missing, "memory": before, "ns": loop(library, rounds)}))


if __name__ == "__main__":
    main()
