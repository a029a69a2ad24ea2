"""warmfork: Python programs that start in about the time of /bin/true.

The map: programs are run with the command `warmpy`, zygotes are managed with `warmctl`; this package holds what
those two load into an interpreter (`_zygote`, `_observe.so`, `boot.py`, `cold_init.py`: not for import). To import:

* is this process safe to fork? `audit()`, `is_safe_to_fork()`, `safefork()`, `audit_at_fork()`, `trace()`; what they
  answer with: `Report`, `Finding`, `UnsafeForkError`, `UnsafeForkWarning`
* the same for gunicorn, celery and pytest: `audit_gunicorn`, `audit_celery`, `audit_pytest`
* tasks in processes forked from this one: `ForkQueue` (results in order), `ForkExecutor` (a
  `concurrent.futures.Executor`); in a task `current_worker()`; what can go wrong: `WorkerDied`, `TaskTimeout`,
  `BrokenPool`, `ForkQueueException`; `get_context()` for multiprocessing, `warmfork.joblib`, `warmfork.dask`. These
  are imported when they are first used
* where the C library is: `get_include()`, folder of `warmfork.h`, and `get_library_dir()`, folder of `libwarmfork.so`
"""

import typing as _typing

from warmfork._auditor import audit
from warmfork._dirs import get_include, get_library_dir
from warmfork._forking import UnsafeForkWarning, audit_at_fork, is_safe_to_fork, safefork
from warmfork._report import Finding, Report, UnsafeForkError
from warmfork._trace import trace

if _typing.TYPE_CHECKING:
    from warmfork._failures import BrokenPool, ForkQueueException, TaskTimeout, WorkerDied
    from warmfork._worker import current_worker
    from warmfork.context import get_context
    from warmfork.executor import ForkExecutor
    from warmfork.queue import ForkQueue

__all__ = [
    "BrokenPool",
    "Finding",
    "ForkExecutor",
    "ForkQueue",
    "ForkQueueException",
    "Report",
    "TaskTimeout",
    "UnsafeForkError",
    "UnsafeForkWarning",
    "WorkerDied",
    "__version__",
    "audit",
    "audit_at_fork",
    "current_worker",
    "get_context",
    "get_include",
    "get_library_dir",
    "is_safe_to_fork",
    "safefork",
    "trace",
]

__version__ = "0.1.0"

_LATER = {
    "BrokenPool": "_failures",
    "ForkExecutor": "executor",
    "ForkQueue": "queue",
    "ForkQueueException": "_failures",
    "TaskTimeout": "_failures",
    "WorkerDied": "_failures",
    "current_worker": "_worker",
    "get_context": "context",
}


def __getattr__(name: str) -> _typing.Any:
    if name not in _LATER:
        raise AttributeError(f"module 'warmfork' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"warmfork.{_LATER[name]}"), name)
    globals()[name] = value
    return value
