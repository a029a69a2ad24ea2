"""A map's results are taken in one thread while another collects them and submits more: nothing is lost, whatever
the order in which they come to it."""

import logging
import threading

import pytest
from conftest import until
from warmfork import ForkExecutor
from warmfork._future import ForkFuture
from warmfork._mapping import Feed


def test_callbacks_that_come_late(monkeypatch):
    """All that was submitted is taken before the collector has called the callbacks that submit more."""
    gate, call = threading.Event(), ForkFuture._invoke_callbacks

    def late(future):
        if threading.current_thread() is not threading.main_thread():
            gate.wait(60)
        call(future)

    monkeypatch.setattr(ForkFuture, "_invoke_callbacks", late)
    with ForkExecutor(2) as executor:
        results = executor.map(abs, list(range(100)), chunksize=1)
        until(lambda: executor._crew.ended)
        try:
            assert list(results) == list(range(100))
        finally:
            gate.set()


def test_the_last_chunk_is_submitted_by_another_thread(monkeypatch):
    """Between the look at what there is and the look at the input."""
    refill = Feed.refill

    def overtaken(feed):
        if threading.current_thread() is threading.main_thread() and not feed.futures:
            other = threading.Thread(target=refill, args=(feed,))
            other.start()
            other.join()
        return refill(feed)

    monkeypatch.setattr(Feed, "refill", overtaken)
    with ForkExecutor(1) as executor:
        executor.submit(abs, 1).result()  # the worker is forked by this thread
        for kind in (list, iter):
            assert list(executor.map(abs, kind(list(range(10))), chunksize=1)) == list(range(10))
            assert list(executor.map(abs, kind([5]), chunksize=1)) == [5]


class Sized:
    """Known in length, and its iteration fails at the end."""

    def __init__(self):
        self.failed = threading.Event()

    def __len__(self):
        return 50

    def __iter__(self):
        yield from range(43)
        self.failed.set()
        raise LookupError("at item 43")


@pytest.mark.parametrize("chunksize", [1, 7, None])
@pytest.mark.parametrize("kind", [Sized, iter], ids=["sized", "lazy"])
def test_input_that_fails_gives_what_came_before(kind, chunksize):
    source = Sized()
    with ForkExecutor(2) as executor:
        results, got = executor.map(abs, source if kind is Sized else iter(source), chunksize=chunksize), []
        assert kind is not Sized or source.failed.wait(60), "the collector goes on with what has a length"
        with pytest.raises(LookupError, match="at item 43"):
            for value in results:
                got.append(value)
        assert got == list(range(43))
        assert list(results) == []
        assert executor.submit(abs, -3).result() == 3


@pytest.mark.parametrize("error", [LookupError, SystemExit])
def test_input_that_fails_at_once(error):
    def source():
        raise error("nothing")
        yield

    with ForkExecutor(1) as executor:
        with pytest.raises(error, match="nothing"):
            executor.map(abs, source())
        assert executor.submit(abs, -3).result() == 3


def note(path, number):
    with open(path, "a") as file:
        file.write(f"{number}\n")


@pytest.mark.parametrize("buffersize", [None, 10])
@pytest.mark.parametrize("chunksize", [1, 5])
def test_dropped_and_run_all_the_same(tmp_path, buffersize, chunksize, caplog):
    log = tmp_path / "log"
    with ForkExecutor(2) as executor, caplog.at_level(logging.ERROR, "concurrent.futures"):
        executor.map(note, [log] * 50, Sized(), chunksize=chunksize, buffersize=buffersize)
    assert sorted(map(int, log.read_text().split())) == list(range(43))
    assert "at item 43" in caplog.text, "nobody is there to raise it for"
