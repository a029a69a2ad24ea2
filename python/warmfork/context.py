"""A `multiprocessing` context whose processes are forked as the pool's workers are."""

from __future__ import annotations

import gc
import os
import signal
import warnings
from multiprocessing import popen_fork, process
from multiprocessing.context import ForkContext
from typing import Any

from warmfork._forksafety import check_fork
from warmfork._queue import tie


class _Popen(popen_fork.Popen):
    def _launch(self, process_obj: Any) -> None:
        check_fork()
        with warnings.catch_warnings():
            # Python warns when there are threads; the auditor has looked at what they are.
            warnings.filterwarnings("ignore", ".*multi-threaded.*fork", DeprecationWarning)
            super()._launch(process_obj)  # type: ignore[misc]


class ForkProcess(process.BaseProcess):
    """A `multiprocessing.Process` that ends with its parent, even when that is killed, and shares more memory."""

    _start_method = "fork"

    @staticmethod
    def _Popen(process_obj: Any) -> _Popen:
        return _Popen(process_obj)

    def _bootstrap(self, parent_sentinel: int | None = None) -> int:
        if not tie(self._parent_pid):  # type: ignore[attr-defined]
            os.kill(os.getpid(), signal.SIGKILL)
        gc.freeze()  # a collection would copy every inherited page
        code: int = super()._bootstrap(parent_sentinel=parent_sentinel)  # type: ignore[misc]
        return code


class WarmforkContext(ForkContext):
    """See `get_context`."""

    Process = ForkProcess  # type: ignore[assignment]


def get_context() -> WarmforkContext:
    """Return a multiprocessing context, for `Process`, `Pool` and `ProcessPoolExecutor(mp_context=...)`.

    >>> with warmfork.get_context().Pool(4) as pool:
    ...     pool.map(abs, range(10))

    Its start method is "fork". The auditor is asked before each fork, as for our own pools.
    """
    return WarmforkContext()
