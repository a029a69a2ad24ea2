#!/usr/bin/env python3
"""The pool for longer: .venv/bin/python tools/pool_soak.py [kill|million|huge ...]

kill: workers killed at random through 100,000 tasks; million: 1,000,000 tasks through a bounded window, in bounded
memory; huge: 4 GB there and back. Exits 1 when something is not as it must be.
"""

import os
import random
import resource
import signal
import sys
import threading
import time
from pathlib import Path

from warmfork import ForkExecutor, WorkerDied

SLACK_KB = 64 << 10


def echo(x: object) -> object:
    return x


def rss_kb() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024


def children() -> list[int]:
    found = []
    for task in os.listdir("/proc/self/task"):
        try:
            found += Path(f"/proc/self/task/{task}/children").read_text().split()
        except OSError:  # that thread has ended
            pass
    return [int(c) for c in found]


def killer(stop: threading.Event, killed: list[int]) -> None:
    chance = random.Random(1)
    while not stop.wait(chance.uniform(0.001, 0.02)):
        for pid in chance.sample(children(), min(1, len(children()))):
            try:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
            except ProcessLookupError:
                pass


def kill() -> None:
    tasks = 100_000
    stop, killed = threading.Event(), list[int]()
    died = 0
    with ForkExecutor(3) as executor:
        executor.submit(abs, 1).result()
        thread = threading.Thread(target=killer, args=(stop, killed))
        thread.start()
        try:
            for begin in range(0, tasks, 500):
                futures = [executor.submit(echo, i) for i in range(begin, begin + 500)]
                for i, future in enumerate(futures, begin):
                    try:
                        assert future.result() == i
                    except WorkerDied:
                        died += 1
        finally:
            stop.set()
            thread.join()
    assert killed and died <= len(killed), (died, len(killed))
    print(f"kill: {tasks} tasks, {len(killed)} workers killed, {died} tasks lost with them, all others right")


def million() -> None:
    count, total = 1_000_000, 0
    with ForkExecutor(2) as executor:
        results = executor.map(echo, (i for i in range(count)), chunksize=1)
        for n, value in enumerate(results):
            assert value == n
            total += 1
            if n == count // 10:
                early = rss_kb()
        late = rss_kb()
    assert total == count and late < early + SLACK_KB, (total, early, late)
    print(f"million: {total} tasks, {early} KB after a tenth, {late} KB at the end")


def huge() -> None:
    import numpy

    with ForkExecutor(1) as executor:
        array = numpy.arange(1 << 29, dtype=numpy.int64)
        back = executor.submit(echo, array).result()
        assert back.nbytes == 4 << 30 and (back[:: 1 << 16] == array[:: 1 << 16]).all()
        del array, back
        # bytes travel inside of the pickle, which exists up to six times on the way: 4 GiB of them need 24 GiB of
        # memory
        data = bytes(1 << 20) * 2560
        assert len(executor.submit(echo, data).result()) == 5 << 29
    print("huge: an array of 4 GiB and bytes of 2.5 GiB, there and back")


def main() -> int:
    for name in sys.argv[1:] or ["kill", "million", "huge"]:
        begin = time.monotonic()
        {"kill": kill, "million": million, "huge": huge}[name]()
        print(f"{name}: {time.monotonic() - begin:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
