#!/usr/bin/env python3
"""The pool for longer: .venv/bin/python tools/pool_soak.py [kill|million|huge ...]

kill: workers killed at random through 100,000 tasks; million: 1,000,000 tasks through a bounded window, in bounded
memory; huge: 4 GiB there and back, as an array and as bytes. Exits 1 when something is not as it must be.
"""

import os
import random
import re
import resource
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TypeVar

from warmfork import ForkExecutor, WorkerDied

T = TypeVar("T")
SLACK_KB = 64 << 10


def echo(x: T) -> T:
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


def available_kb() -> int:
    found = re.search(r"^MemAvailable:\s*(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


class Lowest(threading.Thread):
    """Watches how much memory there is."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.lowest = available_kb()
        self.end = threading.Event()
        self.start()

    def run(self) -> None:
        while not self.end.wait(0.05):
            self.lowest = min(self.lowest, available_kb())

    def stop(self) -> int:
        self.end.set()
        self.join()
        return self.lowest


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
    """Plain bytes are copied into the arena and out of it, and nowhere else: their four copies, two of them in the
    caller at the end, are 16 GiB by that count (in a run on a busy machine 21.7 GiB less were available). A str or a
    bytearray has one copy more on its way."""
    import numpy

    least = 18 << 20
    free = available_kb()
    assert free > least, f"{free >> 20} GiB of memory are available, {least >> 20} are needed"
    size = 4 << 30
    with ForkExecutor(1) as executor:
        array = numpy.arange(size // 8, dtype=numpy.int64)
        back = executor.submit(echo, array).result()
        assert back.nbytes == size and (back[:: 1 << 16] == array[:: 1 << 16]).all()
        del array, back
        data = bytes(range(256)) * (size // 256)
        low = Lowest()
        future = executor.submit(echo, data)
        answer = future.result()
        took = free - low.stop()
        assert len(answer) == size and answer == data
    print(f"huge: an array and bytes of 4 GiB, there and back; the bytes took {took >> 10} MiB of memory at most")


def main() -> int:
    for name in sys.argv[1:] or ["kill", "million", "huge"]:
        begin = time.monotonic()
        {"kill": kill, "million": million, "huge": huge}[name]()
        print(f"{name}: {time.monotonic() - begin:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
