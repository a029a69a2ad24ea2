"""Sizes: from nothing to more than any buffer."""

import gc
import os
import pickle
import re

import pytest
from warmfork import ForkExecutor
from warmfork import _queue

np = pytest.importorskip("numpy")

EDGES = [0, 1, 7, 8, 100, _queue.OUT_OF_BAND - 1, _queue.OUT_OF_BAND, _queue.PAYLOAD - 100, _queue.PAYLOAD, _queue.PAYLOAD + 1,
         1 << 20, (1 << 20) + 1, 50_000_000]


@pytest.fixture
def executor():
    with ForkExecutor(2) as found:
        found.submit(abs, 1).result()
        yield found


def arena_mappings():
    with open("/proc/self/maps") as file:
        return len(re.findall("warmfork-arena", file.read()))


@pytest.mark.parametrize("size", EDGES)
def test_bytes(executor, size):
    data = os.urandom(min(size, 1000)) * (size // 1000 + 1)
    data = data[:size]
    assert executor.submit(lambda x: x, data).result() == data


@pytest.mark.parametrize("size", EDGES)
def test_text_and_bytearray(executor, size):
    for thing in ("x" * size, "é" * (size // 2), bytearray(b"y") * size):
        back = executor.submit(lambda x: x, thing).result()
        assert type(back) is type(thing) and back == thing


def test_around_the_limits_byte_by_byte(executor):
    """Where a message begins to travel in the arena, and where pickle begins to hand it over in pieces."""
    sizes = [n + d for n in (_queue.PAYLOAD, _queue.OUT_OF_BAND) for d in (*range(-120, -20, 3), *range(-20, 5))]
    results = executor.map(lambda n: (n, bytes(n)), sizes, chunksize=1)
    assert [(n, len(data)) for n, data in results] == [(n, n) for n in sizes]
    assert list(executor.map(len, (b"z" * n for n in sizes), chunksize=1)) == sizes


def test_pieces_in_order(executor):
    """A pickle of many frames, large and small, and buffers beside it."""
    thing = [os.urandom(n) for n in (10, 70_000, 3, 200_000, 65_536, 0, 65_535)] + [np.arange(50_000), "t" * 70_000] + [
        list(range(30_000)), {i: str(i) * 50 for i in range(2000)}]
    back = executor.submit(lambda x: x, thing).result()
    assert back[:7] == thing[:7] and (back[7] == thing[7]).all() and back[8:] == thing[8:]
    shared = b"s" * 100_000
    back = executor.submit(lambda x: x, [shared, shared]).result()
    assert back[0] is back[1] and back[0] == shared


def test_large_exceptions(executor):
    def fail(size):
        raise LookupError(b"e" * size)

    for size in (0, _queue.PAYLOAD - 1000, _queue.PAYLOAD, 1 << 20):
        error = executor.submit(fail, size).exception()
        assert isinstance(error, LookupError) and error.args == (b"e" * size,)


def test_pickling_that_submits():
    """A task is pickled while another one is."""
    with ForkExecutor(1) as executor:

        class Nested:
            def __reduce__(self):
                return int, (executor.submit(abs, -5).result(),)

        assert executor.submit(lambda *a: sum(a), Nested(), 1, Nested()).result() == 11


def test_pickling_that_fails_midway(executor):
    class Bad:
        def __reduce__(self):
            raise RuntimeError("not this one")

    for _ in range(3):
        future = executor.submit(len, [bytes(100_000), np.zeros(100_000), Bad()])
        assert isinstance(future.exception(), RuntimeError)
        assert executor.submit(len, [1, 2, 3]).result() == 3
        assert isinstance(executor.submit(lambda: [bytes(100_000), Bad()]).exception(), RuntimeError)
        assert executor.submit(lambda: "fine").result() == "fine"


@pytest.mark.parametrize("size", EDGES)
def test_buffers(executor, size):
    array = np.arange(size, dtype=np.uint8)
    assert (executor.submit(np.add, array, 1).result() == array + 1).all()
    parts = executor.submit(lambda a: [a, a[: size // 2].copy(), bytearray(a), pickle.PickleBuffer(a).raw().nbytes], array).result()
    assert (parts[0] == array).all() and (parts[1] == array[: size // 2]).all()
    assert parts[2] == bytearray(array) and parts[3] == size


def test_no_copy_and_freed_when_dropped(executor):
    before = arena_mappings()
    arrays = [executor.submit(np.full, 1_000_000, i).result() for i in range(5)]
    assert arena_mappings() == before + 5  # they lie where the worker wrote them
    arrays[2][:] = 7
    assert [int(a[-1]) for a in arrays] == [0, 1, 7, 3, 4]
    del arrays
    gc.collect()
    assert arena_mappings() == before


def test_memory_is_used_again():
    with ForkExecutor(1) as executor:
        seen = set()
        for i in range(30):
            array = executor.submit(np.full, 1_000_000, i).result()
            assert (array == i).all()
            seen.add(_arena_size())
        assert len(seen) <= 3, "the arena grows"


def _arena_size():
    return max(os.fstat(int(fd)).st_size for fd in os.listdir("/proc/self/fd")
               if "warmfork-arena" in _target(fd))


def _target(fd):
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return ""


def test_arrays_outlive_the_pool():
    with ForkExecutor(2) as executor:
        arrays = list(executor.map(lambda i: np.full(200_000, i), range(8), chunksize=1))
    views = [a[1000:].view() for a in arrays]
    del arrays
    gc.collect()
    assert [int(v.sum()) for v in views] == [i * 199_000 for i in range(8)]


def test_array_seen_by_later_workers_stays():
    with ForkExecutor(1, max_tasks_per_child=1) as executor:
        kept = executor.submit(np.full, 500_000, 1).result()

        def total():
            return int(kept.sum())  # noqa: F821

        assert executor.submit(total).result() == 500_000
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.read(reader, 1)  # until the parent has dropped its own, and others have been made
            os._exit(0 if int(kept.sum()) == 500_000 else 1)
        del kept, total
        for i in range(5):
            executor.submit(np.full, 500_000, 9).result()
        os.write(writer, b"x")
        os.close(reader)
        os.close(writer)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_worker_keeps_an_argument():
    from warmfork import current_worker

    def keep(name, array):
        current_worker().state[name] = array

    def total(name):
        return float(current_worker().state[name].sum())

    with ForkExecutor(1) as executor:
        for name in range(5):
            executor.submit(keep, name, np.full(100_000, name)).result()
        for _ in range(20):
            executor.submit(np.sum, np.full(100_000, 77)).result()
        assert [executor.submit(total, name).result() for name in range(5)] == [i * 100_000.0 for i in range(5)]


def test_big_closure(executor):
    table = np.arange(1_000_000)
    assert executor.submit(lambda i: int(table[i]), 1234).result() == 1234
    assert list(executor.map(lambda i: int(table[i]) + 1, range(10), chunksize=3)) == list(range(1, 11))


def test_read_only_stays_read_only(executor):
    array = np.zeros(100_000)
    array.flags.writeable = False
    assert not executor.submit(lambda a: a, array).result().flags.writeable
