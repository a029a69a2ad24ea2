"""What a worker does between its fork and its end."""

from __future__ import annotations

import atexit
import gc
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import starmap
from typing import Any, NoReturn

import _signal  # type: ignore[import-not-found]
from warmfork import _messages as messages
from warmfork._queue import PAYLOAD, Pool, limit_blas

_SIGINT = int(signal.SIGINT)
_LETHAL = (int(signal.SIGTERM), int(signal.SIGHUP), int(signal.SIGQUIT))
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Options:
    """What all workers of a pool have in common."""

    initializer: Callable[..., Any] | None = None
    initargs: tuple[Any, ...] = ()
    max_tasks: int = 0
    max_memory: int = 0
    affinity: Sequence[Iterable[int]] | None = None
    blas_threads: int = 0
    name: str = "ForkPool"


@dataclass
class Worker:
    """The worker that this code runs in: see `current_worker`."""

    index: int
    name: str
    state: dict[Any, Any] = field(default_factory=dict)


_current: Worker | None = None


def current_worker() -> Worker | None:
    """Return the pool worker that this process is, or None.

    >>> def task(x):
    ...     cache = warmfork.current_worker().state
    ...     return cache.setdefault("connection", connect())

    `state` is a dict that lasts as long as the worker; `index` is its place in the pool. Callbacks registered with
    `atexit` in a worker are called when it leaves.
    """
    return _current


class Server:
    """The Python side of Pool.serve, which calls these methods."""

    def __init__(self, options: Options, inventory: messages.Inventory) -> None:
        self.known: dict[bytes, Any] = {}
        self.max_tasks = options.max_tasks
        self.outdated = False
        self._inventory = inventory
        self._max_memory = options.max_memory
        self.too_big: Callable[[], bool] | None = self._too_big if options.max_memory else None

    def resolve(self, key: bytes) -> Any:
        try:
            function, lasting = messages.resolve(key, self._inventory)
        except messages.UnknownFunction:
            self.outdated = key[:1] == b"I"
            raise
        if lasting:
            self.known[key] = function
        return function

    def call(self, kind: int, function: Any, args: Any) -> Any:
        if kind & messages.WITH_FUNCTION:
            function, args = args
            kind -= messages.WITH_FUNCTION
        if kind == messages.CALL:
            return function(*args)
        if kind == messages.CALL_NAMED:
            return function(*args[0], **args[1])
        return _run_chunk(function, args, kind == messages.STARMAP)

    def error(self, error: BaseException) -> bytes:
        if isinstance(error, messages.UnknownFunction):
            return pickle.dumps(None, 5)
        return messages.pack_error(error)

    def pickler(self, failed: type[BaseException]) -> Any:
        """What is to try next to pickle a result, where pickle has failed with such an exception."""
        return messages.slow_pickler() if issubclass(failed, messages.UNPICKLABLE) else None

    def _too_big(self) -> bool:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE > self._max_memory


def _run_chunk(function: Any, items: list[Any], star: bool) -> tuple[list[Any], bytes | None]:
    """The results of a chunk up to the first exception, and that."""
    done: list[Any] = []
    try:
        done.extend(starmap(function, items) if star else map(function, items))
    except BaseException as error:
        return done, messages.pack_error(error)
    return done, None


def _ignore(signum: int, frame: Any) -> None:
    """Ctrl-C is the parent's business. A handler rather than SIG_IGN, which programs that a task starts would
    inherit."""


def _reseed(numpy: Any) -> None:
    """NumPy's legacy generator: all its state is random, which costs less than to spread a seed."""
    try:
        numpy.random.set_state(("MT19937", numpy.frombuffer(os.urandom(624 * 4), "uint32"), 624))
    except (TypeError, ValueError):  # the program has put another one in its place
        pass


def _be_a_worker(options: Options, k: int) -> None:
    """Sheds what belongs to the parent, in this order: signals first, so that a kill does what it says."""
    # Not by the module signal, whose enumerations copy pages.
    _signal.set_wakeup_fd(-1)
    for number in _LETHAL:
        if callable(_signal.getsignal(number)):
            _signal.signal(number, _signal.SIG_DFL)
    _signal.signal(_SIGINT, _ignore)
    atexit._clear()  # the parent's callbacks are the parent's
    if "multiprocessing.process" in sys.modules:
        sys.modules["multiprocessing.process"]._children.clear()
    if "numpy.random" in sys.modules:
        _reseed(sys.modules["numpy"])
    if options.affinity:
        os.sched_setaffinity(0, options.affinity[k % len(options.affinity)])
    if options.blas_threads:
        limit_blas(options.blas_threads)
        for library in ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMEXPR"):
            os.environ.setdefault(f"{library}_NUM_THREADS", str(options.blas_threads))
    gc.freeze()  # a collection would copy every inherited page


def main(pool: Pool, k: int, options: Options, inventory: messages.Inventory) -> NoReturn:
    """The life of worker `k`, right after its fork. Never returns, whatever happens."""
    status = 1
    try:
        global _current
        _current = Worker(k, f"{options.name}-{k}")
        _be_a_worker(options, k)
        status = _work(pool, options, inventory)
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            _leave()
        finally:
            os._exit(status & 0xFF)


def _work(pool: Pool, options: Options, inventory: messages.Inventory) -> int:
    if options.initializer is not None:
        try:
            options.initializer(*options.initargs)
        except BaseException as error:
            text = messages.pack_error(error)
            if len(text) > PAYLOAD:
                text = messages.pack_error(RuntimeError(str(error)[:1000]))
            pool.report(messages.BROKEN, text)
            return 1
    pool.serve(Server(options, inventory))
    return 0


def _leave() -> None:
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass
