"""What an audit says: findings, and the report that holds them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

SEVERITIES = ("info", "warning", "unsafe")  # each is worse than the one before

CODES = (
    "thread", "native-thread", "lock", "event-loop", "epoll", "executor", "pending-signal", "signal-mask",
    "signal-wakeup-fd", "timer", "socket", "database", "file-lock", "unflushed-buffer", "shared-memory",
    "child-process", "gpu", "io-uring", "inotify", "random-state", "env-snapshot", "gc", "atexit", "privileged-fd",
    "unseen",
)  # fmt: skip


Fact = tuple[str, int, str, str, int, int]  # what _audit.facts() gives: kind, id, name, detail, from, size
Make = Callable[..., "Finding | None"]  # what the probes make findings with: _auditor.Maker


class Finding:
    """One thing that a fork would lose, copy or share.

    >>> finding.code, finding.severity, finding.message
    ('thread', 'unsafe', "thread 'pump' runs app.pump, and would not exist in a child")

    `where` is the file, line or library that made it, as far as that can be known; `fix` says what to do, `evidence`
    what was seen. `introduced_by` is the import that it came with, where imports were told apart (`warmctl audit`).
    """

    __slots__ = ("code", "severity", "message", "where", "fix", "evidence", "introduced_by", "key")

    def __init__(
        self,
        code: str,
        severity: str,
        message: str,
        where: str = "",
        fix: str = "",
        evidence: Mapping[str, Any] | None = None,
        key: object = None,
    ) -> None:
        self.code = code
        self.severity = severity
        self.message = message
        self.where = where
        self.fix = fix
        self.evidence = dict(evidence or {})
        self.introduced_by: str | None = None
        self.key = (code, message if key is None else key)  # the same hazard has the same key in a later audit

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as plain data, for `json.dumps(finding.to_dict())`."""
        names = ("code", "severity", "message", "where", "fix", "evidence")
        found = {name: getattr(self, name) for name in names}
        if self.introduced_by is not None:
            found["introduced_by"] = self.introduced_by
        return found

    def __repr__(self) -> str:
        return f"<Finding {self.severity} {self.code}: {self.message}>"


class Report:
    """What an audit found, the worst first; true when the process is safe to fork.

    >>> if not report:
    ...     print(report.format())

    `seconds` is how long the audit took.
    """

    def __init__(self, findings: Iterable[Finding], seconds: float = 0.0) -> None:
        self.findings = sorted(findings, key=lambda f: (-SEVERITIES.index(f.severity), CODES.index(f.code)))
        self.seconds = seconds

    @property
    def safe(self) -> bool:
        """Whether nothing that was found is `unsafe`."""
        return not self.at_least("unsafe")

    def __bool__(self) -> bool:
        return self.safe

    def at_least(self, severity: str) -> list[Finding]:
        """Return the findings of that severity or a worse one; ValueError for a severity that there is not."""
        return [f for f in self.findings if SEVERITIES.index(f.severity) >= SEVERITIES.index(severity)]

    def fails(self, on: Collection[str]) -> list[Finding]:
        """Return the findings that a set of severities and codes asks for: `report.fails({"unsafe", "atexit"})`."""
        levels = [SEVERITIES.index(s) for s in on if s in SEVERITIES]
        least = min(levels, default=len(SEVERITIES))
        return [f for f in self.findings if f.code in on or SEVERITIES.index(f.severity) >= least]

    def since(self, earlier: Report) -> Report:
        """Return a report of what was not there in an earlier one, or was less severe."""
        known = {f.key: SEVERITIES.index(f.severity) for f in earlier.findings}
        new = [f for f in self.findings if known.get(f.key, -1) < SEVERITIES.index(f.severity)]
        return Report(new, self.seconds)

    def format(self, least: str = "info") -> str:
        """Return the report as text, for people: `print(report.format())`, without what is below `least`."""
        lines = [self.summary()]
        for f in self.at_least(least):
            lines.append(f"{f.severity:<8} {f.code:<16} {f.message}")
            for name, text in (("import", f.introduced_by), ("where", f.where), ("fix", f.fix)):
                if text:
                    lines.append(f"{'':25} {name + ':':<7} {text}")
        return "\n".join(lines)

    def summary(self) -> str:
        """Return the verdict in one line."""
        counts = [(sum(f.severity == s for f in self.findings), s) for s in reversed(SEVERITIES)]
        told = ", ".join(f"{n} {s}" for n, s in counts if n)
        return ("safe to fork" if self.safe else "unsafe to fork") + (f": {told}" if told else "")

    def to_json(self, indent: int | None = None) -> str:
        """Return the report as a JSON object with `safe`, `findings` and `seconds`."""
        import json

        return json.dumps(self.to_dict(), indent=indent, default=str)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return {
            "safe": self.safe,
            "findings": [f.to_dict() for f in self.findings],
            "seconds": round(self.seconds, 6),
        }

    def __repr__(self) -> str:
        return f"<Report {self.summary()}>"


class UnsafeForkError(RuntimeError):
    """Forking would be unsafe; `report` says why.

    >>> try:
    ...     pid = warmfork.safefork()
    ... except warmfork.UnsafeForkError as error:
    ...     print(error.report.format())
    """

    def __init__(self, report: Report) -> None:
        reasons = "; ".join(f"{f.code}: {f.message}" for f in report.at_least("unsafe"))
        super().__init__(f"unsafe to fork: {reasons}")
        self.report = report
