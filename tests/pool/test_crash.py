"""Deaths: of workers at random, of the caller, and by Ctrl-C."""

import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest
from conftest import alive, children, state, until
from warmfork import ForkExecutor, ForkQueue, WorkerDied

TASKS = int(os.environ.get("WARMFORK_KILL_TASKS", "5000"))  # tools/pool_soak.py has 100,000


def echo(x):
    return x


def kill_at_random(stop, seed, count, ended):
    """Between two kills a task ends: a pool none of whose workers lives to be ready is broken, and says so."""
    chance = random.Random(seed)
    before = -1
    while not stop.wait(chance.uniform(0.001, 0.02)):
        workers = children()
        if workers and len(ended) > before:
            before = len(ended)
            try:
                os.kill(chance.choice(workers), signal.SIGKILL)
                count.append(1)
            except ProcessLookupError:  # it has been reaped meanwhile
                pass


@pytest.mark.timeout(60 + TASKS // 50)
def test_kill_at_random():
    stop, killed, ended = threading.Event(), [], []
    with ForkExecutor(3) as executor:
        executor.submit(abs, 1).result()
        killer = threading.Thread(target=kill_at_random, args=(stop, 1, killed, ended))
        killer.start()
        died = 0
        try:
            for begin in range(0, TASKS, 500):
                futures = [executor.submit(echo, i) for i in range(begin, begin + 500)]
                for i, future in enumerate(futures, begin):
                    try:
                        assert future.result() == i
                    except WorkerDied as error:
                        assert error.signal == signal.SIGKILL
                        died += 1
                    ended.append(i)
        finally:
            stop.set()
            killer.join()
    assert killed and died <= len(killed)


@pytest.mark.timeout(60 + TASKS // 50)
def test_kill_at_random_with_retries_loses_nothing():
    stop, killed, ended = threading.Event(), [], []
    payload = os.urandom(100_000)
    with ForkExecutor(3, retries=1000) as executor:
        executor.submit(abs, 1).result()
        killer = threading.Thread(target=kill_at_random, args=(stop, 2, killed, ended))
        killer.start()
        try:
            for i in range(TASKS // 10):
                futures = [executor.submit(echo, (payload, i)) for _ in range(4)]
                for future in futures:
                    assert future.result() == (payload, i)
                    ended.append(i)
        finally:
            stop.set()
            killer.join()
    assert killed


def test_workers_killed_while_idle():
    with ForkQueue(numforks=3) as q:
        for _ in range(20):
            for pid in children():
                os.kill(pid, signal.SIGKILL)
            assert sorted(q.map(echo, range(6))) == list(range(6))


def start(code, **kwargs):
    """A program that prints the pids of its workers, one line, then goes on."""
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kwargs)


WORKING = """
import os, sys, time
from warmfork import ForkExecutor, ForkQueue

def busy(x):
    os.write(1, b"busy\\n")
    time.sleep(60)

def pids(x):
    time.sleep(0.1)
    return os.getpid()

with ForkExecutor(2) as executor:
    print(*{f.result() for f in [executor.submit(pids, i) for i in range(6)]}, flush=True)
    list(executor.map(busy, range(4), chunksize=1))
"""


def test_parent_killed():
    with start(WORKING) as program:
        workers = [int(pid) for pid in program.stdout.readline().split()]
        assert workers and all(alive(pid) for pid in workers)
        program.kill()
        killed = time.monotonic()
        until(lambda: not any(alive(pid) for pid in workers))
        assert time.monotonic() - killed < 1
    program.wait()


def test_parent_killed_whose_forking_thread_has_ended():
    code = """
import os, threading, time
from warmfork import ForkQueue
made = []
def make():
    made.append(ForkQueue(numforks=2))
thread = threading.Thread(target=make)
thread.start(); thread.join()
pids = set(made[0].map(lambda x: time.sleep(0.05) or os.getpid(), range(8)))
print(*pids, flush=True)
time.sleep(60)
"""
    with start(code) as program:
        workers = [int(pid) for pid in program.stdout.readline().split()]
        assert workers and all(alive(pid) for pid in workers)
        program.kill()
        until(lambda: not any(alive(pid) for pid in workers))
    program.wait()


@pytest.mark.parametrize("kind", ["executor", "queue"])
def test_ctrl_c(kind):
    code = WORKING if kind == "executor" else WORKING.replace("ForkExecutor(2)", "ForkQueue(numforks=2)").replace(
        "{f.result() for f in [executor.submit(pids, i) for i in range(6)]}", "set(executor.map(pids, range(6)))"
    ).replace(", chunksize=1", "")
    with start(code, process_group=0) if sys.version_info >= (3, 11) else start(code, preexec_fn=os.setpgrp) as program:
        workers = [int(pid) for pid in program.stdout.readline().split()]
        os.killpg(program.pid, signal.SIGINT)  # as a terminal does: everybody gets it
        _, errors = program.communicate(timeout=30)
        assert program.returncode == -signal.SIGINT  # as of a program without a pool
        assert errors.count("Traceback") == 1 and errors.rstrip().endswith("KeyboardInterrupt")
        assert not any(alive(pid) for pid in workers)


WAYS_TO_WAIT = {
    "future.result": "executor.submit(busy, 0).result()",
    "futures.wait": "concurrent.futures.wait([executor.submit(busy, i) for i in range(9)])",
    "as_completed": "list(concurrent.futures.as_completed([executor.submit(busy, i) for i in range(9)]))",
    "endless map": "for _ in executor.map(pids, iter(int, 1), chunksize=1): pass",
    "asyncio": "asyncio.run(gather())",
    "not at all": "executor.submit(busy, 0); time.sleep(60)",
}


@pytest.mark.parametrize("way", WAYS_TO_WAIT)
def test_ctrl_c_however_the_program_waits(way):
    """No orphan, one traceback, and the status that python gives a program that Ctrl-C ends."""
    code = WORKING.partition("    list(executor.map(busy")[0] + f"    {WAYS_TO_WAIT[way]}\n"
    code = """import asyncio, concurrent.futures
async def gather():
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(loop.run_in_executor(executor, busy, i) for i in range(4)))
""" + code
    with start(code, preexec_fn=os.setpgrp) as program:
        workers = [int(pid) for pid in program.stdout.readline().split()]
        if way == "asyncio":  # what it says when a signal interrupts it while it sets itself up is its own affair
            assert program.stdout.readline() == "busy\n"
            until(lambda: state(program.pid) == "S")
        os.killpg(program.pid, signal.SIGINT)
        _, errors = program.communicate(timeout=30)
        assert program.returncode == -signal.SIGINT, errors
        tracebacks = 2 if way == "asyncio" and "CancelledError" in errors else 1  # asyncio's own chain
        lines = [line for line in errors.splitlines() if "was never awaited" not in line]  # it came before asyncio had begun
        assert errors.count("Traceback") == tracebacks and lines[-1].strip() == "KeyboardInterrupt", errors
        assert not any(alive(pid) for pid in workers)


WAITS = """
import signal, time
from warmfork import ForkExecutor, ForkQueue

class Told(BaseException): pass  # as KeyboardInterrupt
def tell(*_): raise Told
signal.signal(signal.SIGALRM, tell)
"""
WAITS_OF = {
    "executor": """
with ForkExecutor(1) as executor:
    for i in range(60):
        assert [executor.submit(abs, n).result() for n in range(5)] == list(range(5))
        future = executor.submit(time.sleep, 600)
        try:
            signal.setitimer(signal.ITIMER_REAL, 1e-5 * (i + 1))
            future.result()
        except Told: print("told", flush=True)
        assert not future.done() and future.cancel()
""",
    "queue": """
for i in range(20):
    try:
        with ForkQueue(numforks=1) as q:
            assert list(q.map(abs, range(5))) == list(range(5))
            q.add(time.sleep, (600,))
            signal.setitimer(signal.ITIMER_REAL, 3e-5 * (i + 1))
            q.wait()
    except Told: print("told", flush=True)
""",
}


@pytest.mark.parametrize("kind", WAITS_OF)
def test_signal_at_any_moment_of_a_wait(kind):
    """Also just before it goes to sleep, when nothing wakes it up."""
    done = subprocess.run([sys.executable, "-c", WAITS + WAITS_OF[kind]], capture_output=True, text=True, timeout=60)
    assert set(done.stdout.split()) == {"told"} and (done.returncode, done.stderr) == (0, ""), done


def test_program_ends_without_shutdown():
    code = """
import os
from warmfork import ForkExecutor
executor = ForkExecutor(2)
futures = [executor.submit(os.write, 1, b"%d\\n" % i) for i in range(10)]
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr == ""
    assert sorted(map(int, done.stdout.split())) == list(range(10))


def test_sigterm_stays_lethal():
    code = """
import os, signal, time
from warmfork import ForkQueue
signal.signal(signal.SIGTERM, lambda *a: None)
with ForkQueue(numforks=1, reraise=False) as q:
    q.add(lambda: os.kill(os.getpid(), signal.SIGTERM) or time.sleep(60), ())
    print([type(r).__name__ for r in q.results()][0])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("WorkerDied\n", "")


def test_sigchld_ignored():
    code = """
import os, signal
from warmfork import ForkExecutor
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
with ForkExecutor(2) as executor:
    print(executor.submit(abs, -1).result(), type(executor.submit(os._exit, 3).exception()).__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("1 WorkerDied\n", "")
