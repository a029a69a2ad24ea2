#!/usr/bin/env python3
"""CPython's own test suite under python and under warmpy: does every test method come out the same?

    .venv/bin/python tools/cpython_parity.py [--python P]… [--modules PATTERN,…] [--jobs N]     run, resuming
    .venv/bin/python tools/cpython_parity.py --report                                           write docs/parity.md

Each module of an interpreter's `test` package (the submodules of its packages one by one) runs under `python3 -m
unittest` and under `warmpy -m unittest`, in emptied directories, and the outcomes of all its test methods are compared.
What differs runs again on both sides: only what always differs is a difference. A line of JSON for each module goes to
tests/cpython/results/VERSION.jsonl, or VERSION-preload.jsonl; modules that are there already are not run again, unless
`--again` is given.

`--report` sets the block "cpython" of docs/parity.md: the counts, and each difference with its cause, which must be in
tests/cpython/causes.json. The exit status is 1 when a difference has no cause there, or a cause no difference.
"""

from __future__ import annotations

import argparse
import fnmatch
import glob
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cpython_report import report
from cpython_runs import ROOT, Comparison, Lane

RESULTS = ROOT / "tests" / "cpython" / "results"
LEFT_OUT = ("test.test_zipfile64",)  # writes files of 6 GB, for longer than everything else takes; runs when named
UNKNOWN = 5.0  # seconds that both sides of a module that has never run may take
STDLIB = """if True:
    import importlib.util, sys, warnings
    warnings.simplefilter("ignore")
    apart = "antigravity this tkinter turtle turtledemo idlelib".split()  # a browser, a poem, a display
    print(*(name for name in sorted(sys.stdlib_module_names)
            if not name.startswith("_") and name not in apart and importlib.util.find_spec(name)), sep=",")
"""
ASK = "import sys, test; print(*sys.version_info[:2], test.__path__[0])"


def suites() -> dict[str, str]:
    """The interpreters of this machine that have a test package worth the name, by version: {"3.11": path}."""
    root = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    found: dict[str, str] = {}
    paths = [*glob.glob(os.path.join(root, "versions/*/bin/python3")), "/usr/local/bin/python3", "/usr/bin/python3"]
    for path in filter(lambda path: os.access(path, os.X_OK), paths):
        asked = subprocess.run([path, "-I", "-c", ASK], capture_output=True, text=True)
        words = asked.stdout.split(maxsplit=2)
        if asked.returncode == 0 and (3, 10) <= (int(words[0]), int(words[1])) <= (3, 13):
            if glob.glob(words[2].strip() + "/test_os*"):
                found.setdefault(".".join(words[:2]), path)
    return dict(sorted(found.items(), key=lambda item: int(item[0].split(".")[1])))


def modules_of(python: str) -> list[str]:
    """The names of the test modules: packages that only load their submodules are these, others are both."""
    asked = subprocess.run([python, "-I", "-c", ASK], capture_output=True, text=True, check=True)
    top = Path(asked.stdout.split(maxsplit=2)[2].strip())
    names = []
    for path in sorted(top.glob("test_*")):
        if path.suffix == ".py":
            names.append(f"test.{path.stem}")
        elif (path / "__init__.py").exists():
            if "load_tests" not in (path / "__init__.py").read_text():
                names.append(f"test.{path.name}")
            names += [".".join(("test", *inner.relative_to(top).with_suffix("").parts))
                      for inner in sorted(path.rglob("test_*.py")) if in_packages(inner, top)]
    return names


def in_packages(path: Path, top: Path) -> bool:
    """Whether the file can be imported as a submodule: data of a test lies beside, in plain directories."""
    return all((parent / "__init__.py").exists() for parent in path.parents if parent.is_relative_to(top))


def standard_library(python: str) -> str:
    """What `--preload stdlib` preloads: the public modules, of which none opens a window or prints."""
    asked = subprocess.run([python, "-I", "-c", STDLIB], capture_output=True, text=True, check=True)
    return asked.stdout.strip()


class Progress:
    """What has been compared of one interpreter's suite, on disk and on stderr."""

    def __init__(self, path: Path, total: int, quiet: bool, as_json: bool) -> None:
        self.path, self.total, self.quiet, self.as_json = path, total, quiet, as_json
        self.lock = threading.Lock()
        self.done = self.failed = 0
        self.began = time.monotonic()

    def tell(self, result: Comparison) -> None:
        with self.lock:
            self.done += 1
            self.failed += bool(result.differs) or not result.warm
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a") as file:
                file.write(result.line() + "\n")
            if self.as_json:
                print(result.line(), flush=True)
            if self.quiet:
                return
            notes = [f"{len(entries)} {word}" for word, entries in
                     (("DIFFER", result.differs), ("unsteady", result.unsteady)) if entries]
            notes += [f"{len(result.unfinished)} hang under python"] if result.unfinished else []
            notes += [] if result.warm else ["NEVER WARM"]
            print(f"{self.done:4}/{self.total} {time.monotonic() - self.began:6.0f} s  {result.module:45} "
                  f"{result.same}/{result.methods} {' '.join(notes)}", file=sys.stderr, flush=True)
            for entry in result.differs:
                print(f"          {entry.test}: python {entry.cold}, warmpy {entry.warm}", file=sys.stderr, flush=True)


def done_already(path: Path) -> dict[str, Comparison]:
    lines = path.read_text().splitlines() if path.exists() else []
    return {result.module: result for result in map(Comparison.of_line, lines)}


def quickest_first(modules: list[str], results: Path) -> list[str]:
    """`modules` by how long any interpreter's took, so that a run that is ended early has compared the most."""
    took: dict[str, float] = {}
    for path in results.glob("3.*.jsonl"):
        for module, result in done_already(path).items():
            took[module] = max(took.get(module, 0), sum(result.seconds))

    def seconds(module: str) -> float:
        """What is one module here may be a package of several there."""
        return took.get(module) or sum(s for name, s in took.items() if name.startswith(module + ".")) or UNKNOWN

    return sorted(modules, key=seconds)


def run_suite(python: str, version: str, options: argparse.Namespace) -> int:
    """Runs what is asked for of one interpreter; the number of modules with differences."""
    path = options.results / f"{version}{'-preload' if options.preload else ''}.jsonl"
    known = {} if options.again else done_already(path)
    patterns = options.modules.split(",") if options.modules else ["*"]
    wanted = [name for name in modules_of(python) if (options.modules or name not in LEFT_OUT) and
              any(fnmatch.fnmatch(name.removeprefix("test."), p.removeprefix("test.")) for p in patterns)]
    todo = quickest_first([name for name in wanted if name not in known], options.results)
    progress = Progress(path, len(todo), options.quiet, options.json)
    todo.reverse()

    preload = standard_library(python) if options.preload == "stdlib" else options.preload
    lanes = [Lane(str(options.bin.absolute()), python, options.limit, options.rounds, preload)
             for _ in range(min(options.jobs, len(todo)))]
    ended = False
    try:
        for lane in lanes:
            lane.logs = version_logs(options.logs, version)
        with ThreadPoolExecutor(max(1, len(lanes))) as pool:
            futures = [pool.submit(work, lane, todo, progress) for lane in lanes]
            try:
                for future in futures:
                    future.result()
            finally:  # after an error or a signal: the others end what they are doing
                for lane in lanes:
                    lane.stopped = True
        ended = True
    finally:
        for lane in lanes:
            lane.close(check=ended)
    return progress.failed


def tell_missing(found: dict[str, str], results: Path) -> None:
    """Says which modules of the interpreters at hand have no result."""
    for version, python in found.items():
        known = done_already(results / f"{version}.jsonl")
        missing = [name for name in modules_of(python) if name not in known and name not in LEFT_OUT]
        text = f"{version}: {len(known)} modules, {' '.join(missing) or 'none'} missing"
        print(f"cpython_parity: {text}", file=sys.stderr)


def work(lane: Lane, todo: list[str], progress: Progress) -> None:
    """One of the lanes: takes the next module until there is none left."""
    lane.prime()
    while not lane.stopped:
        try:
            module = todo.pop()
        except IndexError:
            return
        progress.tell(lane.compare(module))


def version_logs(directory: Path | None, version: str) -> Callable[[str, str, str], None]:
    """A function that keeps what a run wrote, as DIRECTORY/VERSION-MODULE.RUN."""

    def keep(module: str, run: str, text: str) -> None:
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
            (directory / f"{version}-{module}.{run}").write_text(text)

    return keep


def main() -> int:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--python", action="append", help="an interpreter (default: all that have the test package)")
    parser.add_argument("--modules", help="names or patterns, comma separated: test_os,test_asyncio.*")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="modules at a time")
    parser.add_argument("--limit", type=float, default=200, help="seconds in which a test must end")
    parser.add_argument("--rounds", type=int, default=3, help="runs of what differs")
    parser.add_argument("--preload", default="", help="modules to preload, the last proves it; or stdlib: all")
    parser.add_argument("--again", action="store_true", help="run what has a result already, too")
    parser.add_argument("--results", type=Path, default=RESULTS, help="directory of the results")
    parser.add_argument("--logs", type=Path, help="directory for the output of runs that differ")
    parser.add_argument("--bin", type=Path, default=ROOT / ".venv" / "bin", help="where warmpy is")
    parser.add_argument("--json", action="store_true", help="results on stdout, too")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    parser.add_argument("--list", action="store_true", help="name the modules, and run nothing")
    parser.add_argument("--report", action="store_true", help="write docs/parity.md from the results, and run nothing")
    parser.add_argument("--check", action="store_true", help="with --report: only say whether it is up to date")
    options = parser.parse_args()

    if options.report and options.check:
        return report(options.results, check=True)
    found = suites()
    if options.python:
        versions = [re.search(r"3\.\d+", subprocess.check_output([path, "-V"], text=True)) for path in options.python]
        found = {match[0]: path for match, path in zip(versions, options.python, strict=True) if match}
    if options.report:
        tell_missing(found, options.results)
        return report(options.results, check=False)
    if not found:
        parser.error("no interpreter with CPython's test package; name one with --python")
    if options.list:
        print(json.dumps({version: modules_of(path) for version, path in found.items()}, indent=1))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # with the lanes closed
    failed = sum(run_suite(path, version, options) for version, path in found.items())
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
