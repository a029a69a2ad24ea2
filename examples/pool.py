#!/usr/bin/env python3
"""A pool at work: `python3 examples/pool.py [ROWS]`.

A big table that no worker copies, a function that nothing can pickle, a task that hangs, and one that is killed.
"""

import os
import random
import signal
import sys
import threading
import time

from warmfork import ForkExecutor, TaskTimeout, WorkerDied


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    chance = random.Random(1)
    table = [chance.random() for _ in range(rows)]  # read by all workers, sent to none
    lock = threading.Lock()  # cannot be pickled, and need not be

    def total(begin: int) -> float:
        with lock:
            return sum(table[begin : begin + 1000])

    with ForkExecutor(2, timeout=2, name="example") as executor:
        found = sum(executor.map(total, range(0, rows, 1000)))
        print(f"the sum of {rows} rows is right: {abs(found - sum(table)) < 1e-6}")

        hangs = executor.submit(time.sleep, 60)
        dies = executor.submit(lambda: os.kill(os.getpid(), signal.SIGKILL))
        works = executor.submit(pow, 2, 10)
        for future in (hangs, dies, works):
            try:
                print("a task returned", future.result())
            except TaskTimeout as error:
                print("a task was stopped:", error)
            except WorkerDied as error:
                print("a task was lost: its worker was killed by", signal.Signals(error.signal or 0).name)

        cancelled = executor.submit(time.sleep, 60)
        print("a running task is cancelled:", cancelled.cancel())
        print("the pool goes on:", executor.submit(sorted, [3, 1, 2]).result())


if __name__ == "__main__":
    main()
