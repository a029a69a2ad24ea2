#!/usr/bin/env python3
"""Runs the observations of tests/parity and writes their results into docs/parity.md.

    .venv/bin/python tools/parity_table.py [--record FILE]… [-- PYTEST ARGUMENTS]    run (or read FILEs), and write
    .venv/bin/python tools/parity_table.py --check                                   does the page name today's cases?

The block between the marks "observations:begin" and "observations:end" is this tool's; the rest of the page is not
touched. Nothing is written when an observation failed: a difference is a bug, or is named in its case with a cause that
DESIGN.md knows.
"""

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "parity.md"
BEGIN, END = "<!-- observations:begin -->", "<!-- observations:end -->"
TESTS = ROOT / "tests" / "parity"


def sections() -> list[ModuleType]:
    sys.path[:0] = [str(TESTS), str(ROOT / "tests" / "system")]
    return [importlib.import_module(path.stem) for path in sorted(TESTS.glob("test_*.py"))]


def run(arguments: list[str]) -> list[Path]:
    """Runs pytest; returns the file with what it recorded. Raises SystemExit when an observation failed."""
    record = Path(tempfile.mkdtemp(prefix="wfparity-")) / "record.jsonl"
    command = [sys.executable, "-m", "pytest", "-q", str(TESTS), f"--parity-record={record}", *arguments]
    if subprocess.run(command, check=False).returncode != 0:
        raise SystemExit("parity_table: an observation failed; docs/parity.md is left as it is")
    return [record]


def read(paths: list[Path]) -> list[dict[str, Any]]:
    """The last outcome of each section, case and interpreter."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for path in paths:
        for text in path.read_text().splitlines():
            line = json.loads(text)
            found[line["section"], line["case"], line["python"]] = line
    return list(found.values())


def order(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def counts(modules: list[ModuleType], lines: list[dict[str, Any]]) -> list[str]:
    pythons = sorted({line["python"] for line in lines}, key=order)
    head = ["observations", "cases", *(f"Python {python}" for python in pythons)]
    rows = [head, ["---", *["---:"] * (len(head) - 1)]]
    for module in modules:
        name = (module.__doc__ or "").split(":")[0].rstrip(".")
        mine = [line for line in lines if line["section"] == module.__name__]
        rows.append([name, str(len(module.CASES)), *(str(sum(line["python"] == p for line in mine)) for p in pythons)])
    total = ["**all**", str(sum(len(m.CASES) for m in modules))]
    rows.append(total + [str(sum(line["python"] == p for line in lines)) for p in pythons])
    return ["| " + " | ".join(row) + " |" for row in rows]


def differing(modules: list[ModuleType], known: dict[str, str]) -> list[str]:
    rows = ["| cause | observations that differ by it, and by nothing else |", "|---|---|"]
    for cause, text in known.items():
        names = [f"`{case.name}`" for module in modules for case in module.CASES if case.known == cause]
        if names:
            rows.append(f"| {text} | {', '.join(names)} |")
    return rows


def listing(modules: list[ModuleType]) -> list[str]:
    lines = []
    for module in modules:
        names = ", ".join(f"`{case.name}`" for case in module.CASES)
        lines += ["<details>", f"<summary>{module.__doc__}</summary>", "", names, "", "</details>", ""]
    return lines[:-1]


def block(lines: list[dict[str, Any]]) -> str:
    modules = sections()
    known = sys.modules["parity"].KNOWN
    preloaded = sum(case.preloaded for module in modules for case in module.CASES)
    text = [*counts(modules, lines), "",
            f"Of these, {preloaded} are made with a preload of much of the standard library as well. All of them are "
            "alike, but for those that a known difference shows in:", "",
            *differing(modules, known), "", *listing(modules)]
    return "\n".join(text)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--record", type=Path, action="append", help="what pytest --parity-record wrote; runs nothing")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the page names other cases")
    parser.add_argument("arguments", nargs="*", help="for pytest (default: --python-all)")
    options = parser.parse_args()
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    old, after = rest.split(END)
    if options.check:
        modules = sections()
        wanted = [*listing(modules), *differing(modules, sys.modules["parity"].KNOWN)]
        missing = [line for line in wanted if line not in old.splitlines()]
        if missing:
            print(f"parity_table: {PAGE} does not name today's cases: run {sys.argv[0]}", file=sys.stderr)
        return 1 if missing else 0
    lines = read(options.record or run(options.arguments or ["--python-all"]))
    PAGE.write_text(f"{before}{BEGIN}\n{block(lines)}\n{END}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
