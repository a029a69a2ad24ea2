"""celery: audit the worker's main process before its prefork pool forks.

Where the app is made:

    import warmfork.audit_celery
    warmfork.audit_celery.install()                # or install("raise")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from warmfork import UnsafeForkError, audit
from warmfork._forking import before_next_fork

MODES = ("warn", "raise")

__all__ = ["install"]


def install(mode: str = "warn", *, policy: Mapping[str, str] | None = None) -> Callable[..., None]:
    """Audit each worker's main process just before its first fork; return the handler of the signal `worker_init`.

    >>> warmfork.audit_celery.install("raise", policy={"timer": "ignore"})

    "warn" logs each finding that is not mere information to the logger `warmfork`; "raise" logs them as well, and ends
    the worker with status 1 when it is unsafe. Processes that replace others later are not audited: the main process
    is connected to its broker then, and celery itself closes that connection in them. `policy` is that of
    `warmfork.audit()`. Raises ValueError for another mode, ImportError without celery.
    """
    if mode not in MODES:
        raise ValueError(f"mode {mode!r}: not one of {', '.join(MODES)}")
    from celery.signals import worker_init

    def arm(**_: Any) -> None:
        # Not here: tasks are imported after this signal. And worker_before_create_process is for some brokers only.
        before_next_fork(lambda: _audit(mode, policy))

    worker_init.connect(arm, weak=False)  # nobody need keep what we return
    return arm


def _audit(mode: str, policy: Mapping[str, str] | None) -> None:
    import logging

    report = audit(policy=policy)
    logger = logging.getLogger("warmfork")
    for finding in report.at_least("warning"):
        level = logging.ERROR if finding.severity == "unsafe" else logging.WARNING
        where = f" [{finding.where}]" if finding.where else ""
        logger.log(level, "fork audit: %s: %s%s; %s", finding.code, finding.message, where, finding.fix)
    logger.info("fork audit: %s", report.summary())
    if mode == "raise" and not report:
        logger.critical("fork audit: %s", UnsafeForkError(report))
        raise SystemExit(1)  # ends the worker in order; other exceptions are logged, and it goes on
