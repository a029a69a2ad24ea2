"""gunicorn: audit the master before it forks its workers.

In gunicorn.conf.py, with `preload_app = True`:

    from warmfork.audit_gunicorn import when_ready          # logs what it finds, as gunicorn's own messages

or, to choose:

    from warmfork import audit_gunicorn
    when_ready = audit_gunicorn.hook("raise", policy={"socket": "info"})
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from warmfork import UnsafeForkError, audit

MODES = ("warn", "raise")

__all__ = ["hook", "when_ready"]


def hook(mode: str = "warn", *, policy: Mapping[str, str] | None = None) -> Callable[[Any], None]:
    """Return a server hook that audits the master; for `when_ready`, which runs before the first worker is forked.

    >>> when_ready = hook("raise")

    "warn" logs each finding that is not mere information, "raise" raises UnsafeForkError if the master is unsafe to
    fork, which ends gunicorn with status 1 before any worker exists. `policy` is that of `warmfork.audit()`. Raises
    ValueError for another mode.
    """
    if mode not in MODES:
        raise ValueError(f"mode {mode!r}: not one of {', '.join(MODES)}")

    def when_ready(server: Any) -> None:
        report = audit(policy=policy)
        for finding in report.at_least("warning"):
            log = server.log.error if finding.severity == "unsafe" else server.log.warning
            where = f" [{finding.where}]" if finding.where else ""
            log("fork audit: %s: %s%s; %s", finding.code, finding.message, where, finding.fix)
        server.log.info("fork audit: %s", report.summary())
        if mode == "raise" and not report:
            raise UnsafeForkError(report)

    return when_ready


def when_ready(server: Any) -> None:
    """Audit the master and log what is found: `from warmfork.audit_gunicorn import when_ready`."""
    hook("warn")(server)
