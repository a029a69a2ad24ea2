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


def test_scikit_learn():
    """The same figures as without us, by its own way of saying which backend."""
    pytest.importorskip("sklearn")
    joblib = pytest.importorskip("joblib")
    import warmfork.joblib  # noqa: F401
    from sklearn.datasets import make_classification
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import GridSearchCV, cross_val_score

    x, y = make_classification(300, 8, random_state=0)
    forest = RandomForestClassifier(20, random_state=0)
    expected = cross_val_score(forest, x, y, cv=4)
    grid = {"max_depth": [2, 4], "min_samples_leaf": [1, 5]}
    alone = GridSearchCV(forest, grid, cv=3).fit(x, y)
    with joblib.parallel_config("warmfork", n_jobs=2):
        assert (cross_val_score(forest, x, y, cv=4, n_jobs=2) == expected).all()
        search = GridSearchCV(forest, grid, cv=3, n_jobs=2).fit(x, y)
    assert search.best_params_ == alone.best_params_
    assert (search.cv_results_["mean_test_score"] == alone.cv_results_["mean_test_score"]).all()


def test_joblib_shares_large_arrays():
    joblib = pytest.importorskip("joblib")
    np = pytest.importorskip("numpy")
    import warmfork.joblib  # noqa: F401

    table = np.arange(1_000_000)
    with joblib.parallel_config("warmfork", n_jobs=2):
        found = joblib.Parallel()(joblib.delayed(lambda i: table[i :: 4].copy())(i) for i in range(4))
    assert all((part == table[i::4]).all() for i, part in enumerate(found))


@pytest.fixture
def dask():
    return pytest.importorskip("dask")


def test_dask_delayed(dask):
    pids = set()

    @dask.delayed
    def inc(x):
        return x + 1, os.getpid()

    @dask.delayed
    def total(parts):
        return sum(x for x, _ in parts), {pid for _, pid in parts} | {os.getpid()}

    with warmfork.ForkExecutor(2) as executor:
        with dask.config.set(scheduler=executor):
            answer, pids = total([inc(i) for i in range(20)]).compute()
        assert answer == 210 and os.getpid() not in pids, "every task ran in a worker"
        (again, _), = dask.compute(total([inc(i) for i in range(5)]), scheduler=executor)
        assert again == 15
        with pytest.raises(ZeroDivisionError):
            dask.delayed(divmod)(1, 0).compute(scheduler=executor)
        assert dask.delayed(lambda x: x * 2)(21).compute(scheduler=executor) == 42


def test_dask_bag(dask):
    bag = pytest.importorskip("dask.bag")
    with warmfork.ForkExecutor(2) as executor, dask.config.set(scheduler=executor):
        words = bag.from_sequence("the quick brown fox jumps over the lazy dog".split() * 50, npartitions=6)
        assert dict(words.frequencies().compute())["the"] == 100
        assert words.map(len).filter(lambda n: n > 4).sum().compute() == 15 * 50
        assert bag.from_sequence(range(1000), npartitions=7).fold(lambda a, b: a + b).compute() == 499500


@pytest.mark.filterwarnings("ignore::warmfork.UnsafeForkWarning")  # pyarrow's threads
def test_dask_dataframe(dask):
    pd = pytest.importorskip("pandas")
    dd = pytest.importorskip("dask.dataframe")
    frame = pd.DataFrame({"key": [i % 7 for i in range(10_000)], "value": range(10_000)})
    with warmfork.ForkExecutor(2) as executor, dask.config.set(scheduler=executor):
        parts = dd.from_pandas(frame, npartitions=5)
        found = parts.groupby("key").value.sum().compute().sort_index()
        assert (found == frame.groupby("key").value.sum()).all()
        assert len(parts[parts.value % 2 == 0].compute()) == 5000
