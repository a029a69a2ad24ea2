"""What the auditor says before a pool forks this process."""

from __future__ import annotations

import os
import sys
import threading
import warnings
import weakref

from warmfork import _forking
from warmfork._auditor import audit
from warmfork._report import UnsafeForkError

# The collectors: they hold no lock while they sleep, and a fork cannot hurt them.
own_threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
_judged: frozenset[str] = frozenset()  # the tasks that the last verdict was about


def check_fork() -> None:
    """Audits this process if it has threads that are not ours, and that no earlier audit has seen.

    Warns with UnsafeForkWarning if the verdict is that a fork is unsafe; after `audit_at_fork("raise")` raises
    UnsafeForkError.
    """
    global _judged
    ours = {str(t.native_id) for t in own_threads}  # also one that has just ended: it may be shown a while longer
    tasks = frozenset(os.listdir("/proc/self/task")) - ours
    if len(tasks) < 2 or (tasks <= _judged and _forking._mode != "raise"):
        return
    _judged = tasks
    report = audit()
    names = [t.name for t in own_threads]
    unsafe = [f for f in report.findings if f.severity == "unsafe" and not any(n in f.message for n in names)]
    if not unsafe:
        return
    if _forking._mode == "raise":
        raise UnsafeForkError(report)
    text = "; ".join(f"{f.message} ({f.code})" for f in unsafe)
    message = f"the pool forks a process that is unsafe to fork: {text}"
    warnings.warn(message, _forking.UnsafeForkWarning, stacklevel=_callers_level())


def _callers_level() -> int:
    """The stack level, seen from our caller, of the first frame that is not ours: the warning is about that line."""
    level = 1
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "warmfork":
        frame = frame.f_back
        level += 1
    return level
