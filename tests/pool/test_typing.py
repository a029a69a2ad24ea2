"""What a user's type checker and a user's eyes see: types, docstrings, the example."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import warmfork

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
from collections.abc import Iterator
from warmfork import ForkExecutor, ForkQueue

def double(x: int, *, by: int = 2) -> int:
    return x * by

with ForkExecutor(2, retries=1) as executor:
    future = executor.submit(double, 3, by=4)
    answer: int = future.result()
    if (record := future.record()) is not None:
        used: float = record.cpu_time
    many: Iterator[int] = executor.map(double, range(3), chunksize=2)
    waiting: int = executor.stats().waiting

with ForkQueue(numforks=2) as queue:
    queue.add(double, (1,), {"by": 3})
    found = list(queue.results())
"""

WRONG = {
    "executor.submit(double, 'three')": "arg-type",
    "executor.submit(double, 3, 4)": "misc|call-arg|too many",
    "text: str = executor.submit(double, 3).result()": "assignment",
    "words: Iterator[str] = executor.map(double, range(3))": "arg-type|assignment",
}


def mypy(tmp_path, program):
    path = tmp_path / "program.py"
    path.write_text(program)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", str(tmp_path / "cache"), str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=250, cwd=tmp_path)


@pytest.mark.timeout(300)
def test_strictly_typed_program(tmp_path):
    pytest.importorskip("mypy")
    done = mypy(tmp_path, PROGRAM)
    assert (done.stdout, done.returncode) == ("", 0), done.stderr
    done = mypy(tmp_path, PROGRAM + "".join(f"{line}\n" for line in WRONG))
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert done.returncode == 1 and len(errors) == len(WRONG), done.stdout
    for line, kinds in zip(errors, WRONG.values()):
        assert any(kind in line.lower() for kind in kinds.split("|")), line


@pytest.mark.parametrize("face", [warmfork.ForkExecutor, warmfork.ForkQueue, warmfork.current_worker, warmfork.get_context])
def test_docstrings(face):
    assert ">>>" in inspect.getdoc(face), "an example"
    if inspect.isclass(face):
        for name, method in vars(face).items():
            assert name.startswith("_") or not callable(method) or inspect.getdoc(method), f"{face.__name__}.{name}"


def test_example():
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "pool.py", "20000"], capture_output=True, text=True, timeout=120
    )
    assert done.stderr == "" and done.returncode == 0
    assert done.stdout.splitlines() == [
        "the sum of 20000 rows is right: True",
        "a task was stopped: sleep took over 2 s",
        "a task was lost: its worker was killed by SIGKILL",
        "a task returned 1024",
        "a running task is cancelled: True",
        "the pool goes on: [1, 2, 3]",
    ]
