"""ForkExecutor(cluster=...): a real scheduler and two real workers, one of which is killed in the middle."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
import warmfork
from conftest import alive, until

distributed = pytest.importorskip("distributed")


@pytest.fixture
def nothing_left():  # a client of Dask's leaves threads of its own
    yield


def start(tmp_path, name, *args):
    log = open(tmp_path / name, "w")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    with log:
        return subprocess.Popen([sys.executable, "-m", "dask", *args], stdout=log, stderr=log, env=environment, cwd=tmp_path)


@pytest.fixture
def cluster(tmp_path):
    """The scheduler's address and the two workers."""
    log = tmp_path / "scheduler"
    programs = [start(tmp_path, "scheduler", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")]
    try:
        until(lambda: log.exists() and "Scheduler at:" in log.read_text(), "the scheduler's start")
        address = re.search(r"tcp://[0-9.:]+", log.read_text())[0]
        for n in range(2):
            programs.append(start(tmp_path, f"worker{n}", "worker", address, "--nthreads", "2", "--no-nanny", "--no-dashboard"))
        with distributed.Client(address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
        yield address, programs[1:]
    finally:
        for program in reversed(programs):
            program.terminate()
        for program in programs:
            try:
                program.wait(20)
            except subprocess.TimeoutExpired:  # Dask's own way out hangs now and then, under load
                program.kill()
                program.wait()


@pytest.mark.timeout(300)
def test_cluster(cluster, tmp_path):
    address, workers = cluster
    factor = 3

    def slow(x):
        time.sleep(0.05)
        return x * factor

    with warmfork.ForkExecutor(cluster=address, preload=["decimal"]) as executor:
        assert executor.submit(pow, 2, 10).result(60) == 1024
        assert executor.submit(lambda: "decimal" in sys.modules).result(60)
        pids = list(executor.map(lambda _: (os.getppid(), os.getpid()), range(20)))
        assert len({own for _, own in pids}) == 20, "each task has a process of its own"
        zygotes = {parent for parent, _ in pids}
        assert not zygotes & {w.pid for w in workers}
        with pytest.raises(ZeroDivisionError):
            executor.submit(divmod, 1, 0).result(60)
        with pytest.raises(warmfork.WorkerDied) as caught:
            executor.submit(lambda: os.kill(os.getpid(), signal.SIGKILL)).result(60)
        assert caught.value.signal == signal.SIGKILL
        assert all(w.poll() is None for w in workers), "a crash of a task took a Dask worker"

        futures = [executor.submit(slow, i) for i in range(100)]
        futures[0].result(60)
        workers[0].kill()
        assert [f.result(100) for f in futures] == [i * factor for i in range(100)]
        assert executor.submit(abs, -5).result(60) == 5
    until(lambda: not any(alive(pid) for pid in zygotes), "the end of the zygotes")


@pytest.mark.timeout(300)
def test_clients_own_cluster(cluster):
    with distributed.Client(cluster[0], set_as_default=False) as client:
        executor = warmfork.ForkExecutor(cluster=client)
        assert list(executor.map(abs, range(-5, 0))) == [5, 4, 3, 2, 1]
        executor.shutdown()
        with pytest.raises(RuntimeError):
            executor.submit(abs, 1)
        assert client.submit(abs, -1).result() == 1, "the client is the caller's and stays open"


def test_options_that_a_cluster_does_not_have():
    with pytest.raises(ValueError, match="max_workers"):
        warmfork.ForkExecutor(3, cluster="tcp://127.0.0.1:1")
