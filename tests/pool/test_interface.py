"""The words of the interface that test_executor.py does not have: each in a test of its own."""

import concurrent.futures
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
import weakref

import pytest
from conftest import children, kill_self, until
from warmfork import ForkExecutor, ForkQueue, TaskTimeout, WorkerDied, current_worker


def echo(x):
    return x


# map


def test_map_takes_everything_that_can_be_iterated():
    with ForkExecutor(2) as executor:
        for items in (range(5), range(10, 0, -3), range(0), range(2**70, 2**70 + 3), [1, 2], (3,), {4: 5}, "ab", {6}):
            assert list(executor.map(echo, items)) == list(items)
            assert list(executor.map(echo, items, chunksize=2)) == list(items)
            assert list(executor.map(echo, items, buffersize=3)) == list(items)
        assert list(executor.map(pow, range(4), (i for i in range(1, 3)))) == [0, 1]


def test_map_holds_no_result_that_was_taken():
    class Thing:
        pass

    taken = []
    with ForkExecutor(1) as executor:
        results = executor.map(lambda i: Thing(), range(8), chunksize=4)
        for _ in range(8):
            thing = next(results)
            taken.append(weakref.ref(thing))
            del thing
            assert taken[-1]() is None, "it waits for the rest of its chunk"


def test_the_first_task_keeps_nothing_alive():
    """A pool looks at the variables of all frames when its first worker is forked."""

    class Thing:
        pass

    def call(executor):
        thing = Thing()
        executor.submit(abs, -1)
        return weakref.ref(thing)

    thing = Thing()
    gc.collect()
    gc.disable()
    try:
        with ForkExecutor(1) as executor:
            assert call(executor)() is None
            gone = weakref.ref(thing)
            del thing
            assert gone() is None
    finally:
        gc.enable()


def test_map_closed_midway():
    with ForkExecutor(1) as executor:
        results = executor.map(echo, iter(range(10**9)), chunksize=10)
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        results.close()
        assert list(results) == []
        results.close()
        assert executor.submit(echo, 1).result() == 1


def test_map_is_an_iterator_that_can_be_collected():
    with ForkExecutor(1) as executor:
        results = executor.map(echo, range(100), chunksize=10)
        assert iter(results) is results and next(results) == 0
        gone = weakref.ref(results)
        del results
        gc.collect()
        assert gone() is None


@pytest.mark.parametrize("buffersize", [1, 2, 5, 64])
def test_buffersize(buffersize):
    taken, most = 0, 0

    def source():
        nonlocal taken
        for i in range(500):
            taken += 1
            yield i

    with ForkExecutor(2) as executor:
        got = 0
        for n, value in enumerate(executor.map(echo, source(), buffersize=buffersize)):
            assert value == n
            got += 1
            most = max(most, taken - got)
    assert got == 500 and most <= buffersize


def test_buffersize_keeps_all_workers_busy():
    def rendezvous(i):
        return os.getpid(), time.sleep(0.02)

    with ForkExecutor(2) as executor:
        assert len({pid for pid, _ in executor.map(rendezvous, range(12), buffersize=4)}) == 2


def test_arguments_that_are_refused():
    with ForkExecutor(1) as executor:
        for wrong in ({"chunksize": 0}, {"buffersize": 0}, {"buffersize": -1}):
            with pytest.raises(ValueError):
                executor.map(echo, [1], **wrong)
        with pytest.raises(TypeError):
            executor.map(echo)
    with pytest.raises(RuntimeError):
        executor.map(echo, [1])
    for wrong in ({"max_tasks_per_child": 0}, {"max_memory_per_child": -1}, {"max_workers": -1}):
        with pytest.raises(ValueError):
            ForkExecutor(**wrong)
    for wrong in ({"max_tasks_per_child": 1.5}, {"initializer": 3}):
        with pytest.raises(TypeError):
            ForkExecutor(**wrong)


def test_map_generator_raises_after_its_items():
    def source():
        yield from range(50)
        raise LookupError("at its end")

    with ForkExecutor(2) as executor:
        results, got = executor.map(echo, source(), chunksize=1), []
        with pytest.raises(LookupError, match="at its end"):
            for value in results:
                got.append(value)
        assert got == list(range(len(got)))
        assert list(executor.map(echo, range(5))) == list(range(5)), "the pool goes on"


def test_local_classes_come_back():
    class Local:
        pass

    with ForkExecutor(1) as executor:
        for function in (lambda: Local(), lambda: (Local(), None), lambda: [Local()], lambda: (Local(),)):
            assert "Local" in repr(executor.submit(function).result())
        assert executor.submit(lambda x: type(x).__name__, (Local(), 1)).result() == "tuple"


# limits on workers


@pytest.mark.parametrize("limit", [{"max_tasks_per_child": 3}, {"max_memory_per_child": 1}])
def test_recycling_does_not_deadlock(limit):
    """As python/cpython#115634: all workers end at about the same time, with work left."""

    def work(i):
        time.sleep(0.0012)
        return i, os.getpid()

    with ForkExecutor(2, **limit) as executor:
        futures = [executor.submit(work, i) for i in range(60)]
        assert [f.result()[0] for f in futures] == list(range(60))
        assert len({pid for _, pid in executor.map(work, range(60), chunksize=1)}) >= 20
        assert executor.stats().workers_died == 0, "they left of themselves"


def test_timeout_with_retries(tmp_path):
    def work(path):
        with open(path, "a") as file:
            file.write("x")
        time.sleep(60)

    log = tmp_path / "log"
    with ForkExecutor(1, timeout=0.2, retries=2) as executor:
        with pytest.raises(TaskTimeout):
            executor.submit(work, log).result()
        assert log.read_text() == "xxx"
        assert executor.stats().retried == 2


def test_timeout_of_the_first_task():
    """Whenever the collector begins to look."""
    for _ in range(30):
        with ForkExecutor(1, timeout=0.05) as executor:
            future = executor.submit(time.sleep, 60)
            concurrent.futures.wait([future])
            assert isinstance(future.exception(), TaskTimeout)


def test_affinity_is_of_the_worker():
    cpus = sorted(os.sched_getaffinity(0))
    with ForkExecutor(1, affinity=[[cpus[-1]]]) as executor:
        assert executor.submit(os.sched_getaffinity, 0).result() == {cpus[-1]}
    assert sorted(os.sched_getaffinity(0)) == cpus


# what it tells


def test_stats_count(tmp_path):
    def wait_for(path):
        while not path.exists():
            time.sleep(0.002)

    with ForkExecutor(1, name="counted") as executor:
        futures = [executor.submit(wait_for, tmp_path / "go") for _ in range(3)]
        until(futures[0].running)
        stats = executor.stats()
        assert (stats.max_workers, stats.running, stats.waiting, stats.ended) == (1, 1, 2, 0)
        assert stats.workers[0].task_time >= 0 and stats.workers[0].index == 0
        (tmp_path / "go").touch()
        concurrent.futures.wait(futures)
        assert isinstance(executor.submit(divmod, 1, 0).exception(), ZeroDivisionError)
        assert isinstance(executor.submit(kill_self).exception(), WorkerDied)
        stats = executor.stats()
        assert (stats.running, stats.waiting, stats.ended, stats.failed, stats.workers_died) == (0, 0, 5, 2, 1)
        assert executor.submit(lambda: current_worker().name).result() == "counted-0"
    assert executor.stats().workers == ()


def test_what_a_dead_worker_tells():
    def grow_and_die():
        bytearray(60 << 20)
        kill_self(signal.SIGUSR1)

    with ForkExecutor(1) as executor:
        future = executor.submit(grow_and_die)
        error = future.exception()
        assert (error.signal, error.exitcode) == (signal.SIGUSR1, None) and error.pid > 0
        assert error.peak_memory > 60 << 20 and "grow_and_die" in error.task
        assert "SIGUSR1" in str(error) and "grow_and_die" in str(error)
        record = future.record()
        assert record.signal == signal.SIGUSR1 and record.queued <= record.started < record.ended
        assert record.peak_memory > 60 << 20
        error = executor.submit(os._exit, 7).exception()
        assert (error.signal, error.exitcode) == (None, 7)


NOTEBOOK = """
from warmfork import ForkExecutor
with ForkExecutor(2, progress=True, name="squares") as executor:
    print(sum(executor.map(lambda x: x * x, range(100), chunksize=10)))
"""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(120)
def test_progress_in_a_notebook(tmp_path):
    for module in ("nbformat", "nbclient", "ipykernel", "ipywidgets", "tqdm"):
        pytest.importorskip(module)
    code = f"""
import json, nbclient, nbformat
book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell({NOTEBOOK!r})])
nbclient.NotebookClient(book, timeout=100).execute()
print(json.dumps(book.cells[0].outputs))
"""
    spec = tmp_path / "kernels" / "python3"
    spec.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "x", "language": "python"}))
    env = {**os.environ, "JUPYTER_PATH": str(tmp_path), "JUPYTER_RUNTIME_DIR": str(tmp_path / "run"),
           "IPYTHONDIR": str(tmp_path / "ipython")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=110, env=env)
    assert done.returncode == 0, done.stderr
    outputs = json.loads(done.stdout)
    assert any(o.get("text") == "328350\n" for o in outputs)
    shown = [o["data"] for o in outputs if "data" in o]
    assert any("application/vnd.jupyter.widget-view+json" in data for data in shown), "no widget was shown"


# ends


def test_exit_hooks_of_every_worker(tmp_path):
    def begin():
        import atexit

        atexit.register((tmp_path / str(os.getpid())).touch)

    def pid(_):
        time.sleep(0.01)
        return os.getpid()

    with ForkExecutor(2, begin, max_tasks_per_child=5) as executor:
        pids = set(executor.map(pid, range(20), chunksize=1))
    assert len(pids) >= 4 and pids <= {int(p.name) for p in tmp_path.iterdir()}


def test_results_never_taken():
    np = pytest.importorskip("numpy")
    with ForkExecutor(2) as executor:
        for _ in range(20):
            executor.submit(np.zeros, 1_000_000)
            executor.submit(bytes, 200_000)
        executor.map(np.zeros, [1_000_000] * 20)
    assert not children()
    with ForkQueue(numforks=2) as queue:
        for _ in range(20):
            queue.add(np.zeros, (1_000_000,))
    assert not children()


def test_nested_in_nested():
    def outer(n):
        with ForkExecutor(2) as inner:
            return sum(inner.map(middle, range(n), chunksize=1))

    def middle(n):
        with ForkQueue(numforks=2) as queue:
            return sum(queue.map(abs, range(n)))

    with ForkExecutor(2) as executor:
        assert list(executor.map(outer, [2, 4], chunksize=1)) == [0, 4]
        with pytest.raises(ZeroDivisionError):
            executor.submit(lambda: ForkExecutor(1).submit(divmod, 1, 0).result()).result()


def test_inner_pool_ends_with_the_worker_that_has_it():
    """A running task with a pool of its own is cancelled: nobody is left."""

    def outer():
        inner = ForkExecutor(2)
        pids = [inner.submit(os.getpid).result()]
        current_worker().state["inner"] = inner
        return pids

    with ForkExecutor(1) as executor:
        pids = executor.submit(outer).result()
        killed = executor.submit(time.sleep, 60)
        until(killed.running)
        assert killed.cancel()
        for pid in pids:
            until(lambda: not os.path.exists(f"/proc/{pid}"))


def test_asyncio_cancel_and_errors():
    import asyncio

    async def main(executor):
        loop = asyncio.get_running_loop()
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(executor, divmod, 1, 0)
        slow = loop.run_in_executor(executor, time.sleep, 60)
        await asyncio.sleep(0.05)
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(loop.run_in_executor(executor, time.sleep, 60), 0.05)
        loop.set_default_executor(executor) if sys.version_info < (3, 11) else None
        return await asyncio.gather(*(loop.run_in_executor(executor, echo, i) for i in range(50)))

    with ForkExecutor(1) as executor:
        assert asyncio.run(main(executor)) == list(range(50))


@pytest.mark.filterwarnings("ignore::warmfork.UnsafeForkWarning")
def test_large_arguments_from_several_threads():
    """They all write to one arena."""

    def size(data):
        return len(data), data[:1] == data[-1:]

    wrong = []

    def one(executor, n):
        for i in range(15):
            length = 300_000 + 7919 * ((n + 1) * i % 13)
            if executor.submit(size, bytes([n]) * length).result() != (length, True):
                wrong.append((n, i))

    with ForkExecutor(2) as executor:
        executor.submit(echo, 1).result()
        threads = [threading.Thread(target=one, args=(executor, n)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
