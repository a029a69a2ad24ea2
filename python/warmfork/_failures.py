"""What can go wrong in a pool."""

from __future__ import annotations

import signal
from concurrent.futures import BrokenExecutor


class ForkQueueException(RuntimeError):
    """A task of a `ForkQueue` has raised an exception; the text has the worker's traceback."""


class WorkerDied(BrokenExecutor, ForkQueueException):
    """The worker that ran a task has died: it was killed, crashed, or called `os._exit`.

    Only that task is lost. `signal` is the signal's number or None, `exitcode` the exit code or None (both are None
    when nobody knows), `peak_memory` the most memory that the process has had, in bytes, `pid` its number, `task` says
    what it was running.
    """

    def __init__(
        self, task: str, pid: int, exitcode: int | None = None, signum: int | None = None, peak_memory: int = 0
    ) -> None:
        super().__init__(task, pid, exitcode, signum, peak_memory)
        self.task = task
        self.pid = pid
        self.exitcode = exitcode
        self.signal = signum
        self.peak_memory = peak_memory

    def __str__(self) -> str:
        if self.signal is not None:
            how = f"was killed by {_signal_name(self.signal)}"
        elif self.exitcode is not None:
            how = f"exited with status {self.exitcode}"
        else:
            how = "died, and its status was taken by somebody else"
        return f"worker {self.pid} {how} while it ran {self.task}; peak memory {self.peak_memory / 1e6:.1f} MB"


class TaskTimeout(TimeoutError):
    """A task took longer than the pool's `timeout`; its worker was killed."""


class BrokenPool(BrokenExecutor):
    """No worker can be started any more: the initializer failed, or workers die before they are ready."""


class RemoteTraceback(Exception):
    """The traceback of a worker, as the cause of the exception that is raised here."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


class RemoteError(RuntimeError):
    """Stands for an exception that could not be sent: `type_name` is its class, `text` its message."""

    def __init__(self, type_name: str, text: str) -> None:
        super().__init__(type_name, text)
        self.type_name = type_name
        self.text = text

    def __str__(self) -> str:
        return f"{self.type_name}: {self.text}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
