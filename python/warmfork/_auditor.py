"""Puts the probes together."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from warmfork import _audit, _heap, _interpreter, _kernel, _known, _tasks
from warmfork._report import SEVERITIES, Finding, Report


def audit(*, policy: Mapping[str, str] | None = None, settle: bool = True) -> Report:
    """Look at this process and report what a fork would lose, copy or share.

    >>> report = warmfork.audit()
    >>> if not report:
    ...     print(report.format())

    `policy` changes how bad things are: `{"socket": "info", "thread:pymongo": "ignore"}`; a key is a code, or a code
    and the library or case that is in a finding's evidence. With `settle`, when there are threads, a child is forked
    that ends at once, to tell threads whose fork handlers work from those that stay; handlers given to
    `os.register_at_fork` run then. Raises ValueError for a severity that there is not.
    """
    for severity in (policy or {}).values():
        if severity not in (*SEVERITIES, "ignore"):
            raise ValueError(f"severity {severity!r}: not one of {', '.join(SEVERITIES)}, ignore")
    started = time.perf_counter()
    found = _look(Maker(policy), settle)
    return Report(found, time.perf_counter() - started)


class Maker:
    """Makes findings as the policy has them; called by the probes."""

    def __init__(self, policy: Mapping[str, str] | None) -> None:
        self.policy = policy

    def __call__(
        self,
        code: str,
        message: str,
        *,
        case: str = "",
        where: str = "",
        fix: str = "",
        evidence: Mapping[str, Any] | None = None,
        key: object = None,
    ) -> Finding | None:
        severity = _known.severity_of(code, case, self.policy)
        if severity == "ignore":
            return None
        return Finding(code, severity, message, where, fix or _known.FIX[code], evidence, key)


def _look(make: Maker, settle: bool) -> list[Finding]:
    facts = _audit.facts()
    threads = _tasks.findings(facts, make, settle)
    heap = _heap.Heap()
    try:
        alone = not _heap.other_threads() and not any(f and f.severity == "unsafe" for f in threads)
        found = [
            *threads,
            *_kernel.findings(facts, _heap.owners(heap), make),
            *_heap.findings(heap, alone, make),
            *_interpreter.findings(make),
        ]
    finally:
        heap.clear()
    return _merge([f for f in found if f is not None], make)


def _merge(found: list[Finding], make: Maker) -> list[Finding]:
    """A database's file and the object that has it open are one hazard."""
    files = [f for f in found if f.code == "database" and "file" in f.evidence]
    objects = [f for f in found if f.code == "database" and "file" not in f.evidence]
    for finding in objects:
        finding.evidence["files"] = [f.evidence["file"] for f in files]
        if not files and finding.evidence["known_as"] == "sqlite3:Connection":  # in memory, or not used yet
            finding.message = finding.message.split(" is open")[0] + " has no file open: each child gets its own copy"
            finding.severity = _known.severity_of("database", "memory", make.policy)
    return [f for f in found if f.severity != "ignore" and not (objects and f in files)]
