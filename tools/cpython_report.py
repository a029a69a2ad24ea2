"""Writes what `cpython_parity.py` has found into docs/parity.md, between the marks "cpython:begin" and "cpython:end".

Each difference must be explained by an entry of tests/cpython/causes.json: {"tests": a pattern of their ids, "cause":
one of CAUSES, "why": a sentence; "python": the versions it is for, all when missing}.
"""

from __future__ import annotations

import fnmatch
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cpython_runs import ROOT, STATUS, Comparison, Difference

PAGE = ROOT / "docs" / "parity.md"
TABLE = ROOT / "tests" / "cpython" / "causes.json"
BEGIN, END = "<!-- cpython:begin -->", "<!-- cpython:end -->"
CAUSES = {  # as docs/parity.md's table heads them
    "process": "pid, parent, session or CPU time",
    "layout": "shared address layout and hash seed",
    "modules": "preloaded modules in `sys.modules`",
}


class Cause(NamedTuple):
    """An entry of the table of causes."""

    tests: str
    cause: str
    why: str
    python: tuple[str, ...]

    def explains(self, version: str, entry: Difference) -> bool:
        return fnmatch.fnmatchcase(entry.test, self.tests) and (not self.python or version in self.python)


class Suite(NamedTuple):
    """The results of one interpreter, with or without a preload."""

    version: str
    preload: bool
    modules: list[Comparison]

    def count(self, what: str) -> int:
        return sum(getattr(result, what) for result in self.modules)

    def differences(self) -> Iterator[Difference]:
        for result in self.modules:
            yield from result.differs


def read_causes(path: Path) -> list[Cause]:
    causes = [Cause(entry["tests"], entry["cause"], entry["why"], tuple(entry.get("python", ())))
              for entry in json.loads(path.read_text())]
    for cause in causes:
        if cause.cause not in CAUSES:
            raise ValueError(f"{path}: {cause.tests}: {cause.cause!r} is none of {', '.join(CAUSES)}")
    return causes


def read_results(directory: Path) -> list[Suite]:
    suites = []
    for path in directory.glob("3.*.jsonl"):
        version, _, preload = path.stem.partition("-")
        newest = {result.module: result for result in map(Comparison.of_line, path.read_text().splitlines())}
        suites.append(Suite(version, bool(preload), sorted(newest.values(), key=lambda result: result.module)))
    return sorted(suites, key=lambda suite: (suite.preload, int(suite.version.split(".")[1])))


def find_cause(causes: list[Cause], version: str, entry: Difference) -> Cause | None:
    return next((cause for cause in causes if cause.explains(version, entry)), None)


def faults(suites: list[Suite], causes: list[Cause]) -> list[str]:
    """What must not be: a difference without a cause, a cause without a difference, a module that was never warm."""
    found, used = [], set()
    for suite in suites:
        found += [f"{suite.version}: {result.module} was never warm" for result in suite.modules if not result.warm]
        for entry in suite.differences():
            cause = find_cause(causes, suite.version, entry)
            used.add(cause)
            if cause is None and not follows(entry, suite, causes):
                found.append(f"{suite.version}: {entry.test}: python {entry.cold}, warmpy {entry.warm}: no known cause")
    return found + [f"{cause.tests}: explains no difference any more" for cause in causes if cause not in used]


def follows(entry: Difference, suite: Suite, causes: list[Cause]) -> bool:
    """The exit status of a module differs when, and because, the outcome of a method does."""
    if entry.test != STATUS:
        return False
    module = next(result for result in suite.modules if any(entry is other for other in result.differs))
    others = [other for other in module.differs if other.test != STATUS]
    return bool(others) and all(find_cause(causes, suite.version, other) for other in others)


def table(header: list[str], rows: list[list[str]], left: int = 1) -> list[str]:
    rule = "|" + "|".join(["---"] * left + ["---:"] * (len(header) - left)) + "|"
    return ["| " + " | ".join(header) + " |", rule, *("| " + " | ".join(row) + " |" for row in rows)]


def counts(suites: list[Suite], causes: list[Cause]) -> list[str]:
    rows = []
    for suite in suites:
        by: Counter[str] = Counter()
        for entry in suite.differences():
            if entry.test != STATUS:
                cause = find_cause(causes, suite.version, entry)
                by[cause.cause if cause else ""] += 1
        outcomes: Counter[str] = Counter()
        for result in suite.modules:
            outcomes.update(result.outcomes)
        name = suite.modules[0].python + (", with a preload" if suite.preload else "")
        row = [name, sum(result.methods > 0 for result in suite.modules), suite.count("methods"), suite.count("same")]
        row += [by[name] for name in CAUSES]
        unsteady = [entry for result in suite.modules for entry in result.unsteady if entry.test != STATUS]
        hanging = [test for result in suite.modules for test in result.unfinished]
        row += [len(unsteady), len(hanging), outcomes["skip"], outcomes["fail"] + outcomes["error"] + outcomes["died"]]
        rows.append([f"{value:,}" if isinstance(value, int) else str(value) for value in row])
    return table(["CPython", "modules", "methods compared", "same", *(f"differ: {text}" for text in CAUSES.values()),
                  "unsteady", "not ended", "skipped by both", "failed by both"], rows)


def listed(suites: list[Suite], causes: list[Cause]) -> list[str]:
    """One row for each cause: which tests it explains, in which versions."""
    rows = []
    for cause in causes:
        tests: dict[str, dict[str, bool]] = {}  # the versions in order, each once
        for suite in suites:
            for entry in suite.differences():
                if find_cause(causes, suite.version, entry) is cause:
                    tests.setdefault(entry.test, {})[suite.version] = True
        names = "<br>".join(f"`{test}` ({', '.join(versions)})" for test, versions in sorted(tests.items()))
        rows.append([names, CAUSES[cause.cause], cause.why])
    return table(["test", "known difference", "why"], rows, left=3) if rows else ["No method differs."]


def block(suites: list[Suite], causes: list[Cause]) -> str:
    if not suites:
        return f"{BEGIN}\nNo results yet.\n{END}"
    lines = [BEGIN, *counts(suites, causes), "", *listed(suites, causes), END]
    return "\n".join(lines)


def report(results: Path, check: bool) -> int:
    """Sets the block of the page; 1 when something is unexplained or, with `check`, when the page is out of date."""
    suites, causes = read_results(results), read_causes(TABLE)
    found = faults(suites, causes)
    for fault in found:
        print(f"cpython_parity: {fault}", file=sys.stderr)
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    new = before + block(suites, causes) + after
    if check and new != page:
        print(f"cpython_parity: {PAGE} does not show the results: use --report", file=sys.stderr)
        return 1
    if not check:
        PAGE.write_text(new)
    return 1 if found else 0
