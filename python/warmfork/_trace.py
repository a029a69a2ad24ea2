"""Remembers who makes threads, so that a report can say it."""

from __future__ import annotations

import _thread
import sys
import threading
import weakref
from types import FrameType
from typing import Any

DEPTH = 12

_threads: weakref.WeakKeyDictionary[threading.Thread, list[str]] = weakref.WeakKeyDictionary()
_raw: dict[int, list[str]] = {}
_originals: dict[str, Any] = {}


def trace(on: bool = True) -> None:
    """Note the stack of whoever starts a thread from now on; audits then say where a thread was made.

    >>> warmfork.trace()
    >>> import app
    >>> warmfork.audit().findings[0].where
    '/srv/app/metrics.py:31 in start'

    Costs some microseconds for each thread that is started. `trace(False)` ends it.
    """
    if on and not _originals:
        _originals.update(start=threading.Thread.start, start_new_thread=_thread.start_new_thread)
        threading.Thread.start = _start  # type: ignore[method-assign]
        _thread.start_new_thread = _thread.start_new = _start_new_thread
    elif not on and _originals:
        threading.Thread.start = _originals["start"]  # type: ignore[method-assign]
        _thread.start_new_thread = _thread.start_new = _originals["start_new_thread"]
        _originals.clear()


def creator_of(thread: threading.Thread | int) -> list[str]:
    """The stack of whoever started it, innermost first; empty when that was not traced."""
    return _raw.get(thread, []) if isinstance(thread, int) else _threads.get(thread, [])


def _stack() -> list[str]:
    stack: list[str] = []
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and len(stack) < DEPTH:
        stack.append(f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}")
        frame = frame.f_back
    return stack


def _start(self: threading.Thread) -> None:
    _threads[self] = _stack()
    _originals_of("start")(self)


def _start_new_thread(function: Any, args: Any, kwargs: Any = None, /) -> int:
    stack = _stack()
    start = _originals_of("start_new_thread")
    ident: int = start(function, args) if kwargs is None else start(function, args, kwargs)
    _raw[ident] = stack
    return ident


_kept: dict[str, Any] = {"start": threading.Thread.start, "start_new_thread": _thread.start_new_thread}


def _originals_of(name: str) -> Any:
    """Also after trace(False), for whoever kept the tracing function."""
    return _originals.get(name, _kept[name])
