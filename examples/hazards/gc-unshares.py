"""gc: the first collection in a child writes to every object, and so copies it; not when the heap is frozen."""

import gc

from show import in_child

data = [[[]] for _ in range(200_000)]


def copied():
    def private():
        with open("/proc/self/smaps_rollup") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("Private_Dirty"))

    before = private()
    gc.collect()
    return f"{(private() - before) // 1024} MB"


gc.collect()
print("a collection in a child copies:", in_child(copied))
gc.freeze()
print("with gc.freeze() before the fork:", in_child(copied))
