"""Audits around os.fork()."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from warmfork._auditor import audit
from warmfork._report import Finding, UnsafeForkError

MODES = ("warn", "raise", "log")

_mode: str | None = None
_once: Callable[[], None] | None = None
_hooked = False
_busy = False


class UnsafeForkWarning(RuntimeWarning):
    """What `audit_at_fork("warn")` warns with."""


def is_safe_to_fork() -> bool:
    """Audit this process, log each finding that is not mere information, and return whether a fork is safe.

    >>> assert warmfork.is_safe_to_fork()

    Logs to the logger `warmfork`: unsafe findings as errors, others as warnings, the rest as information.
    """
    report = audit()
    for finding in report.findings:
        _log(finding)
    return report.safe


def _log(finding: Finding) -> None:
    import logging

    level = {"unsafe": logging.ERROR, "warning": logging.WARNING, "info": logging.INFO}[finding.severity]
    logger = logging.getLogger("warmfork")
    where = f" [{finding.where}]" if finding.where else ""
    logger.log(level, "%s: %s%s; %s", finding.code, finding.message, where, finding.fix)


def safefork() -> int:
    """Fork like `os.fork()`, if that is safe.

    >>> pid = warmfork.safefork()

    Raises UnsafeForkError, which carries the report, if it is not; OSError as `os.fork()` does.
    """
    global _busy
    report = audit()
    if not report:
        raise UnsafeForkError(report)
    before, _busy = _busy, True  # it has been audited
    try:
        return os.fork()
    finally:
        _busy = before


def audit_at_fork(mode: str | None) -> None:
    """Audit this process before each `os.fork()` in it, whoever calls that.

    >>> warmfork.audit_at_fork("raise")

    "warn" warns with UnsafeForkWarning when it is unsafe, "raise" raises UnsafeForkError out of `os.fork()` and
    nothing is forked, "log" logs every finding as `is_safe_to_fork()` does. None ends it. The last call counts.
    Children inherit it. Raises ValueError for another mode.
    """
    global _mode
    if mode is not None and mode not in MODES:
        raise ValueError(f"mode {mode!r}: not one of {', '.join(MODES)}")
    _mode = mode
    if mode is not None:
        _install()


def before_next_fork(callback: Callable[[], None]) -> None:
    """Call it once, before the next `os.fork()`; what it raises comes out of that, and nothing is forked."""
    global _once
    _once = callback
    _install()


def _install() -> None:
    # An audit hook sees every fork, also by who has imported the function by name, and may refuse it; handlers of
    # os.register_at_fork cannot refuse. It can never be removed: it does nothing when nobody wants to know.
    global _hooked
    if not _hooked:
        sys.addaudithook(_hook)
        _hooked = True


def _hook(event: str, args: tuple[Any, ...]) -> None:
    global _once
    if event not in ("os.fork", "os.forkpty") or _busy:
        return
    if _once is not None:
        callback, _once = _once, None
        callback()
    if _mode is not None:
        _before_fork(_mode)


def _before_fork(mode: str) -> None:
    global _busy
    _busy = True
    try:
        if mode == "log":
            is_safe_to_fork()
            return
        report = audit()
    finally:
        _busy = False
    if report:
        return
    error = UnsafeForkError(report)
    if mode == "raise":
        raise error
    import warnings

    warnings.warn(UnsafeForkWarning(str(error)), stacklevel=4)
