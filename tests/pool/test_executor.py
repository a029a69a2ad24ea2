"""ForkExecutor: what a concurrent.futures.Executor promises, and what ours adds."""

import asyncio
import concurrent.futures
import os
import signal
import threading
import time

import pytest
from conftest import alive, children, kill_self, until
from warmfork import BrokenPool, ForkExecutor, TaskTimeout, WorkerDied, current_worker


@pytest.fixture
def executor():
    with ForkExecutor(2) as found:
        yield found


def touch_and_sleep(path, seconds=60):
    """Says where it runs, then sleeps."""
    path.with_suffix(".tmp").write_text(str(os.getpid()))
    path.with_suffix(".tmp").rename(path)
    time.sleep(seconds)


def test_submit(executor):
    assert executor.submit(pow, 2, 10).result() == 1024
    assert executor.submit(int, "ff", base=16).result() == 255
    future = executor.submit(divmod, 1, 0)
    assert isinstance(future.exception(), ZeroDivisionError)
    with pytest.raises(ZeroDivisionError) as caught:
        future.result()
    assert "ZeroDivisionError: integer division" in str(caught.value.__cause__)


def test_many_futures(executor):
    futures = [executor.submit(abs, -i) for i in range(10000)]
    assert [f.result() for f in futures] == list(range(10000))


def test_wait_as_completed_callbacks(executor):
    futures = [executor.submit(abs, -i) for i in range(100)]
    assert {f.result() for f in concurrent.futures.as_completed(futures)} == set(range(100))
    called = threading.Event()
    future = executor.submit(abs, -1)
    future.add_done_callback(lambda f: called.set())
    assert called.wait(20)
    slow = [executor.submit(time.sleep, 0.05) for _ in range(3)]
    done, pending = concurrent.futures.wait(slow, return_when=concurrent.futures.FIRST_COMPLETED)
    assert done and len(done) + len(pending) == 3


def test_asyncio(executor):
    async def main():
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(executor, pow, 2, i) for i in range(20)))

    assert asyncio.run(main()) == [2**i for i in range(20)]


@pytest.mark.filterwarnings("ignore::warmfork.UnsafeForkWarning")
def test_several_threads_wait(executor):
    results = []

    def one(n):
        for i in range(200):
            results.append(executor.submit(divmod, n * 1000 + i, 7).result() == divmod(n * 1000 + i, 7))

    threads = [threading.Thread(target=one, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 800


def test_map(executor):
    assert list(executor.map(lambda x: x + 1, range(5000))) == list(range(1, 5001))
    assert list(executor.map(pow, range(5), range(3))) == [1, 1, 4]
    assert list(executor.map(abs, [])) == []
    for chunksize in (1, 7, 10000):
        assert list(executor.map(abs, range(100), chunksize=chunksize)) == list(range(100))


def fails_at(limit):
    def fails(x):
        if x == limit:
            raise LookupError(x)
        return x

    return fails


def test_map_raises_in_its_place(executor):
    results = executor.map(fails_at(3000), range(10000))
    got = []
    with pytest.raises(LookupError):
        for value in results:
            got.append(value)
    assert got == list(range(3000))
    assert list(results) == []


def test_map_is_lazy_with_generators(executor):
    taken = []

    def source():
        for i in range(10**9):
            taken.append(i)
            yield i

    results = executor.map(abs, source(), buffersize=10)
    assert len(taken) <= 10
    assert [next(results) for _ in range(100)] == list(range(100))
    assert len(taken) <= 111
    results.close()
    unbounded = executor.map(abs, source(), chunksize=2)
    assert next(unbounded) == 0
    unbounded.close()


def test_map_without_taking_results(tmp_path):
    log = tmp_path / "log"

    def note(x):
        with open(log, "a") as file:
            file.write("x")

    with ForkExecutor(2) as executor:
        executor.map(note, (i for i in range(100)), chunksize=1)
        executor.map(note, range(100))
    assert len(log.read_text()) == 200


def test_map_timeout(executor):
    with pytest.raises(concurrent.futures.TimeoutError):
        list(executor.map(time.sleep, [0.5, 0.5], timeout=0.05))


def test_input_raises_midway(executor):
    def source():
        yield 1
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        list(executor.map(abs, source()))


def test_worker_killed(executor):
    futures = [executor.submit(kill_self if i == 5 else abs, 9 if i == 5 else -i) for i in range(20)]
    with pytest.raises(WorkerDied) as caught:
        futures[5].result()
    assert caught.value.signal == signal.SIGKILL and caught.value.task == "kill_self"
    assert [f.result() for i, f in enumerate(futures) if i != 5] == [i for i in range(20) if i != 5]
    assert futures[5].record().signal == signal.SIGKILL
    with pytest.raises(WorkerDied, match="exited with status 3"):
        executor.submit(os._exit, 3).result()
    assert executor.stats().workers_died == 2


def test_retries(tmp_path):
    def dies_once(path):
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            return "second time"
        kill_self()

    with ForkExecutor(1, retries=1) as executor:
        assert executor.submit(dies_once, tmp_path / "flag").result() == "second time"
        with pytest.raises(WorkerDied):
            executor.submit(os._exit, 1).result()


def test_cancel_running(tmp_path):
    with ForkExecutor(2) as executor:
        other = executor.submit(touch_and_sleep, tmp_path / "other", 0.3)
        victim = executor.submit(touch_and_sleep, tmp_path / "victim")
        until((tmp_path / "victim").exists)
        pid = int((tmp_path / "victim").read_text())
        assert victim.running() and not victim.done()
        begin = time.monotonic()
        assert victim.cancel() and victim.cancelled()
        until(lambda: not alive(pid))
        assert time.monotonic() - begin < 10
        with pytest.raises(concurrent.futures.CancelledError):
            victim.result()
        assert concurrent.futures.wait([victim], timeout=5).not_done == set()
        assert other.result() is None
        assert executor.submit(abs, -1).result() == 1


def test_cancel_waiting(tmp_path):
    with ForkExecutor(1) as executor:
        first = executor.submit(touch_and_sleep, tmp_path / "first")
        until((tmp_path / "first").exists)
        second = executor.submit(os.mkdir, tmp_path / "never")
        assert second.cancel() and not second.running()
        assert list(concurrent.futures.as_completed([second])) == [second]
        assert first.cancel()
        assert executor.submit(abs, -1).result() == 1
    assert not (tmp_path / "never").exists()
    assert not first.cancel() or first.cancelled()


def test_timeout(tmp_path):
    with ForkExecutor(2, timeout=0.3) as executor:
        slow, quick = executor.submit(time.sleep, 60), executor.submit(abs, -1)
        with pytest.raises(TaskTimeout, match="sleep took over 0.3 s"):
            slow.result()
        assert quick.result() == 1
        assert executor.submit(abs, -2).result() == 2


def test_result_timeout(executor):
    future = executor.submit(time.sleep, 1)
    with pytest.raises(concurrent.futures.TimeoutError):
        future.result(0.01)
    assert future.cancel()


def test_max_tasks_per_child():
    with ForkExecutor(2, max_tasks_per_child=3) as executor:
        pids = [f.result() for f in [executor.submit(os.getpid) for _ in range(60)]]
    assert all(pids.count(pid) <= 3 for pid in pids)


def grow():
    time.sleep(0.002)  # a worker's size is looked at after tasks of a millisecond
    return os.getpid(), current_worker().state.setdefault("ballast", bytearray(100 << 20)) and None


def test_max_memory_per_child():
    with ForkExecutor(1, max_memory_per_child=80 << 20) as executor:
        pids = [executor.submit(grow).result()[0] for _ in range(3)]
    assert len(set(pids)) == 3


def test_worker_state_and_exit_hook(tmp_path):
    def begin(path):
        import atexit

        atexit.register(path.touch)
        current_worker().state["base"] = 40

    def use(x):
        return current_worker().state["base"] + x

    assert current_worker() is None
    with ForkExecutor(1, initializer=begin, initargs=(tmp_path / "left",), name="mine") as executor:
        assert executor.submit(use, 2).result() == 42
        assert executor.submit(lambda: current_worker().name).result() == "mine-0"
    assert (tmp_path / "left").exists()


def test_initializer_fails():
    def refuse():
        raise OSError("not today")

    with ForkExecutor(2, initializer=refuse) as executor:
        future = executor.submit(abs, -1)
        with pytest.raises(BrokenPool, match="not today"):
            future.result()
        with pytest.raises(BrokenPool):
            executor.submit(abs, -1)


def test_initializer_dies():
    with ForkExecutor(2, initializer=os._exit, initargs=(7,)) as executor:
        with pytest.raises(BrokenPool, match="died before they were ready"):
            executor.submit(abs, -1).result()


def test_initializer_killed():
    """By the system for its memory, say: it would be killed again, and there is no end to that."""
    with ForkExecutor(2, initializer=kill_self) as executor:
        with pytest.raises(BrokenPool, match="died before they were ready"):
            executor.submit(abs, -1).result()


def test_workers_killed_while_they_start(tmp_path):
    """Forty of them, which says nothing about the next one."""

    def begin():
        with open(tmp_path / "log", "a") as file:
            file.write("x")
        if (tmp_path / "log").stat().st_size <= 40:
            kill_self()

    with ForkExecutor(1, initializer=begin, retries=100) as executor:
        assert executor.submit(abs, -1).result() == 1


def test_nested():
    def outer(n):
        with ForkExecutor(2) as inner:
            return sum(inner.map(abs, range(n)))

    with ForkExecutor(2) as executor:
        assert list(executor.map(outer, [10, 20, 30])) == [45, 190, 435]


def test_affinity():
    cpus = sorted(os.sched_getaffinity(0))
    with ForkExecutor(2, affinity=[{cpus[0]}, {cpus[-1]}]) as executor:
        found = {f.result() for f in [executor.submit(lambda: tuple(os.sched_getaffinity(0))) for _ in range(20)]}
    assert found <= {(cpus[0],), (cpus[-1],)}


def test_record_and_stats(executor):
    def work():
        begin = time.process_time()
        while time.process_time() - begin < 0.02:
            pass

    future = executor.submit(work)
    assert future.record() is None or future.done()
    future.result()
    record = future.record()
    assert record.queued <= record.started < record.ended
    assert record.cpu_time >= 0.02 and record.peak_memory > 1 << 20 and record.signal is None
    stats = executor.stats()
    assert stats.ended == 1 and stats.failed == 0 and stats.running == 0 and stats.waiting == 0
    assert [w.tasks for w in stats.workers] == [1] and stats.workers[0].pid in children()


def test_unpicklable_results_and_exceptions(executor):
    class Local(Exception):
        def __init__(self, a, b):
            super().__init__(f"{a} and {b}")

    def raise_local():
        raise Local(1, 2)

    with pytest.raises(Exception, match="1 and 2"):
        executor.submit(raise_local).result()
    with pytest.raises(TypeError, match="pickle"):
        executor.submit(lambda: (i for i in range(3))).result()
    with pytest.raises(TypeError, match="pickle"):
        executor.submit(abs, (i for i in range(3))).result()
    assert executor.submit(lambda: lambda x: x + 1).result()(1) == 2
    with pytest.raises(SystemExit):
        executor.submit(exit, 3).result()


def test_shutdown(tmp_path):
    executor = ForkExecutor(1)
    first = executor.submit(touch_and_sleep, tmp_path / "first", 0.2)
    until((tmp_path / "first").exists)
    rest = [executor.submit(abs, -i) for i in range(10)]
    executor.shutdown(wait=False, cancel_futures=True)
    assert all(f.cancelled() for f in rest)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(abs, -1)
    assert first.result() is None
    executor.shutdown()


def test_shutdown_without_waiting():
    executor = ForkExecutor(2)
    futures = [executor.submit(abs, -i) for i in range(100)]
    executor.shutdown(wait=False)
    assert [f.result() for f in futures] == list(range(100))
    executor.shutdown()


def test_dropped_executor_ends():
    executor = ForkExecutor(2)
    futures = [executor.submit(abs, -i) for i in range(100)]
    crew = executor._crew
    del executor
    assert [f.result() for f in futures] == list(range(100))
    crew._thread.join(20)
    assert not crew._thread.is_alive()


def test_unused():
    ForkExecutor(2).shutdown()
    with pytest.raises(ValueError):
        ForkExecutor(0)


def test_descriptors_closed_by_a_task(executor):
    def close_everything():
        os.closerange(3, 65536)
        return "done"

    for _ in range(3):
        assert executor.submit(close_everything).result() == "done"
    assert executor.submit(abs, -1).result() == 1


def test_progress(capfd):
    pytest.importorskip("tqdm")
    with ForkExecutor(2, progress=True, name="counting") as executor:
        list(executor.map(abs, range(100), chunksize=10))
    assert "counting: 100%" in capfd.readouterr().err


def test_threads_are_audited():
    import warmfork

    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="of the program")
    thread.start()
    try:
        with ForkExecutor(1) as executor, pytest.warns(warmfork.UnsafeForkWarning, match="unsafe to fork") as caught:
            assert executor.submit(abs, -1).result() == 1
        assert [w.filename for w in caught] == [__file__], "it is about the line that asked for a worker"
        warmfork.audit_at_fork("raise")
        with ForkExecutor(1) as executor, pytest.raises(warmfork.UnsafeForkError):
            executor.submit(abs, -1)
    finally:
        warmfork.audit_at_fork(None)
        stop.set()
        thread.join()
