"""ForkQueue: the tests of jeremysanders/forkqueue (MIT licence), as they are there, and what its documentation says."""

import os
import pickle
import threading
import time

import pytest
from conftest import children, kill_self
from warmfork import ForkQueue, ForkQueueException, WorkerDied


def _testfunc(a):
    time.sleep((a + 1) * 0.02)
    return boo + a  # noqa: F821


def _testfunc2(b, addon=0):
    time.sleep(0.1)
    return str(66 + b + addon)


def _testinit():
    global boo
    boo = 42


def _testiter():
    for i in range(5):
        yield (i,)


def test_theirs_ordered():
    with ForkQueue(numforks=2, initfunc=_testinit, retn_ids=False, ordered=True) as q:
        assert tuple(q.process(_testfunc, _testiter())) == (42, 43, 44, 45, 46)


def test_theirs_unordered():
    with ForkQueue(numforks=3, initfunc=_testinit, retn_ids=False, ordered=False) as q:
        assert sorted(q.process(_testfunc, _testiter())) == [42, 43, 44, 45, 46]


def test_theirs_ids():
    with ForkQueue(numforks=4, initfunc=_testinit, retn_ids=True, ordered=True) as q:
        assert tuple(q.process(_testfunc, _testiter())) == ((0, 42), (1, 43), (2, 44), (3, 45), (4, 46))


def test_theirs_add():
    with ForkQueue(numforks=1, initfunc=_testinit) as q:
        q.add(_testfunc, (2,))
        q.add(_testfunc2, (5,), {"addon": 10})
        q.add(_testfunc2, (-1,), {"addon": 3})
        q.wait()
        assert tuple(q.yield_results()) == (44, "81", "68")


def test_theirs_nested_function_and_env():
    bigdata = [1, 2, 3, 4, 5, 6]

    def nestfunc(a):
        return a + sum(bigdata)

    with ForkQueue(numforks=4, env=locals()) as q:
        for i, res in enumerate(q.process(nestfunc, ((j + 1,) for j in range(128)))):
            assert res == 21 + i + 1


def test_theirs_finish():
    q = ForkQueue(numforks=1, initfunc=_testinit)
    q.finish()


def test_nested_function_without_env():
    unpicklable = (i for i in range(3))  # shows that nothing of the closure was sent

    def nested(a):
        return a, next(unpicklable)

    with ForkQueue(numforks=1) as q:
        assert list(q.process(nested, [(7,), (8,)])) == [(7, 0), (8, 1)]


def test_function_made_after_the_fork():
    with ForkQueue(numforks=2) as q:
        results = []
        for n in range(20):  # each lambda is likely to lie where the one before lay
            q.add(lambda x: x * n, (10,))
            results += q.results()
    assert results == [n * 10 for n in range(20)]


class Counter:
    """Cannot be sent."""

    def __init__(self):
        self.lock = threading.Lock()

    def add(self, x):
        with self.lock:
            return x + 1


def test_function_made_after_the_fork_that_cannot_be_sent():
    with ForkQueue(numforks=2) as q:
        assert list(q.map(abs, range(4))) == [0, 1, 2, 3]
        before = set(children())
        source = iter(range(100, 200)), threading.Lock()

        def nested(x):
            with source[1]:
                return x

        assert list(q.map(nested, range(40))) == list(range(40))
        assert list(q.map(Counter().add, range(40))) == list(range(1, 41))
        # One that does not have the function makes way when somebody is needed who does: perhaps one was enough.
        assert set(children()) - before, "workers that have the function were forked"


def redefined():
    return "old"


def test_function_redefined_after_the_fork():
    global redefined
    old = redefined
    with ForkQueue(numforks=1) as q:

        def replacement():
            return "new"

        replacement.__qualname__ = "redefined"
        replacement.__module__ = __name__
        redefined = replacement
        try:
            q.add(replacement, ())
            assert list(q.results()) == ["new"]
        finally:
            redefined = old


def test_job_ids_and_unordered_array():
    out = [None] * 4
    with ForkQueue(ordered=False, retn_ids=True) as queue:
        for jobid, result in queue.process(lambda x, y: x * y, ((i + 1, i + 1) for i in range(4))):
            out[jobid] = result
        queue.add(pow, (2, 5), jobid="a name")
        assert list(queue.results()) == [("a name", 32)]
    assert out == [1, 4, 9, 16]


def test_map_is_the_builtin():
    with ForkQueue(numforks=2) as q:
        assert list(q.map(lambda a, b: a - b, range(50), range(1, 49))) == [-1] * 48


def fail(x):
    if x == 2:
        raise ValueError("two is refused")
    return x


def test_reraise():
    with ForkQueue(numforks=2) as q:
        with pytest.raises(ForkQueueException, match="ValueError: two is refused") as caught:
            list(q.process(fail, ((i,) for i in range(5))))
        assert "in fail" in str(caught.value)


def test_exception_returned():
    with ForkQueue(numforks=2, reraise=False) as q:
        results = list(q.process(fail, ((i,) for i in range(5))))
    assert results[:2] == [0, 1] and results[3:] == [3, 4]
    assert type(results[2]) is ValueError and results[2].args == ("two is refused",)
    assert "in fail" in results[2].backtrace


def die(x):
    if x == 3:
        kill_self()
    return x


def test_worker_killed():
    with ForkQueue(numforks=2, reraise=False) as q:
        results = list(q.process(die, ((i,) for i in range(20))))
    died = results.pop(3)
    assert results == [i for i in range(20) if i != 3]
    assert type(died) is WorkerDied and (died.signal, died.exitcode, died.task) == (9, None, "die")
    assert died.peak_memory > 1 << 20


def test_worker_killed_reraised():
    with ForkQueue(numforks=2) as q:
        with pytest.raises(WorkerDied, match="was killed by SIGKILL while it ran die"):
            list(q.process(die, ((i,) for i in range(20))))


def test_poll_and_slots(tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    def wait_for_gate():
        with open(gate) as file:
            return file.read()

    with ForkQueue(numforks=1) as q:
        assert q.slot_available() and not q.result_available() and q.poll() is False
        q.add(wait_for_gate, ())
        assert not q.slot_available()
        assert q.poll() is False and q.poll(0.01) is False
        assert list(q.results(poll=True)) == []
        gate.write_text("open")
        assert q.poll(None) is True
        assert q.slot_available() and q.result_available()
        assert list(q.yield_results()) == ["open"]


def test_input_is_consumed_as_needed():
    taken = []

    def source():
        for i in range(10**9):
            taken.append(i)
            yield (i,)

    with ForkQueue(numforks=2) as q:
        process = q.process(abs, source())
        for _ in range(1000):
            next(process)
        process.close()
    assert len(taken) < 5000


def test_source_raises_midway():
    def source():
        yield (1,)
        yield (2,)
        raise OSError("no more")

    with ForkQueue(numforks=2) as q:
        with pytest.raises(OSError, match="no more"):
            list(q.process(abs, source()))


def test_unpicklable_argument_fails_there():
    with ForkQueue(numforks=1) as q:
        with pytest.raises((TypeError, pickle.PicklingError)):
            q.add(abs, ((i for i in range(3)),))
        q.add(abs, (-1,))
        assert list(q.results()) == [1]


def test_results_never_taken():
    with ForkQueue(numforks=2) as q:
        for i in range(3000):
            q.add(abs, (-i,))


def test_dropped():
    q = ForkQueue(numforks=2)
    q.add(abs, (1,))
    del q
