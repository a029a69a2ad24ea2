"""The pool behind other people's interfaces: multiprocessing, concurrent.futures, joblib, Dask."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

import pytest
import warmfork
from conftest import alive, children, until


@pytest.fixture(autouse=True)
def no_tracker():
    yield
    from multiprocessing import resource_tracker

    stop = getattr(resource_tracker._resource_tracker, "_stop", None)
    if stop is not None:
        stop()


def square(x):
    return x * x


def test_context_pool():
    offset = 3
    with warmfork.get_context().Pool(2) as pool:
        assert pool.map(square, range(50)) == [x * x for x in range(50)]
        assert list(pool.imap_unordered(square, [4])) == [16]
        pool.close()
        pool.join()
    assert offset == 3


def test_context_process():
    context = warmfork.get_context()
    queue = context.SimpleQueue()
    process = context.Process(target=lambda: queue.put(os.getpid()))
    process.start()
    assert queue.get() == process.pid
    process.join()
    assert process.exitcode == 0
    process.close()
    queue.close()


@pytest.mark.filterwarnings("ignore::warmfork.UnsafeForkWarning")
def test_context_executor():
    with ProcessPoolExecutor(2, mp_context=warmfork.get_context()) as executor:
        assert list(executor.map(square, range(20))) == [x * x for x in range(20)]


def test_context_processes_end_with_their_parent():
    code = """
import os, time, warmfork
process = warmfork.get_context().Process(target=time.sleep, args=(60,))
process.start()
print(process.pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as program:
        child = int(program.stdout.readline())
        until(lambda: b"\0" not in open(f"/proc/{child}/stat", "rb").read())
        os.kill(program.pid, signal.SIGKILL)
        until(lambda: not alive(child))


def test_joblib():
    joblib = pytest.importorskip("joblib")
    import warmfork.joblib  # noqa: F401

    factor = 7
    with joblib.parallel_config("warmfork", n_jobs=2):
        assert joblib.Parallel()(joblib.delayed(lambda x: x * factor)(i) for i in range(100)) == [
            i * factor for i in range(100)
        ]
        with pytest.raises(ZeroDivisionError):
            joblib.Parallel()(joblib.delayed(divmod)(i, 0) for i in range(10))
        generator = joblib.Parallel(return_as="generator")(joblib.delayed(abs)(-i) for i in range(20))
        assert list(generator) == list(range(20))
    assert not children()
