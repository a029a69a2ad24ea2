#!/usr/bin/env python3
"""Writes what real programs did into README.md and docs/parity.md, between <!-- programs:begin --> and …:end -->.

    .venv/bin/python tools/programs_table.py [--check] [--results FILE.jsonl]

The figures are those of the newest complete run in bench/results/programs (or of FILE's last run). With --check nothing
is written, and the exit status is 1 when a page shows something else.
"""

import argparse
import difflib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))

import records  # noqa: E402  (bench/ is not a package)
from readme_table import markdown  # noqa: E402

BEGIN, END = "<!-- programs:begin -->", "<!-- programs:end -->"
QUIET = 0.3  # CPUs: what a machine does beside us without anybody noticing
WAYS = "python3", "warmpy", "warmpy with preload"


def times(ratio):
    return f"{ratio:.1f} ×" if ratio < 9.95 else f"{ratio:.0f} ×"


def readme(found):
    """The timed programs, those that gain most first."""
    timed = [r for r in records.newest(found, "program", "tool", "what") if "times" in r]
    body = []
    for r in sorted(timed, key=lambda r: r["times"][WAYS[2]]["p50"] / r["times"][WAYS[0]]["p50"]):
        medians = [r["times"][way]["p50"] for way in WAYS]
        row = [r["tool"], f"`{r['command']}`", *(records.time_text(m) for m in medians), times(medians[0] / medians[2])]
        body.append(row)
    header = ["", "", "`python3`", "`warmpy`", "tool preloaded", ""]
    picture = "![time of real programs: python3, warmpy, warmpy with the tool preloaded](docs/img/programs.svg)"
    return [picture, "", *markdown(header, body), "", summary(found) + " " + origin(found)]


def summary(found):
    programs = records.newest(found, "program", "tool", "what")
    wrong = [f"{r['tool']}: {r['what']}" for r in programs if r["faults"]]
    differ = f"These differ: {', '.join(wrong)}." if wrong else "None differs."
    return (f"{sum(r['runs'] for r in programs):,} warm runs of {len(programs)} command lines of "
            f"{len({r['tool'] for r in programs})} tools were compared with python's: standard output and error, exit "
            f"status, and the {sum(r['files'] for r in programs):,} files and directories that one run of each leaves. "
            f"{differ}")


def origin(found):
    machine = records.pick(found, "machine")[-1]
    # Of a run older than that figure the load is known.
    busy = max([r.get("others", machine["load"]) for r in found if "times" in r], default=machine["load"])
    kind = "virtual machine" if machine["virtual"] else "machine"
    return (f"{machine['cpu']}, {machine['cores']}-core {kind}, Linux {machine['kernel'].split('-')[0]}, "
            f"{machine['python'].split(' (')[0]}, {machine['run'][:10]}, commit {machine['commit']}"
            + (f", on a busy machine (other work had up to {busy:.1f} CPUs)." if busy > QUIET else "."))


def parity(found):
    """Every command line that was compared."""
    body = []
    for r in records.newest(found, "program", "tool", "what"):
        result = "; ".join(r["faults"]).replace("|", "\\|").replace("\n", " ")[:300] if r["faults"] else "the same"
        left = ", ".join(note.removeprefix("preload ") for note in r["left_out"])
        tool = f"{r['tool']} {r['version']}"
        sizes = [str(r["status"]), f"{r['out_bytes'] + r['err_bytes']:,}", f"{r['files']:,}", str(r["runs"])]
        body.append([tool, r["what"], f"`{r['command']}`", *sizes, result, left])
    header = ["tool", "", "command line", "status", "bytes", "files", "runs", "compared", "left out of the preload"]
    return [*markdown(header, body), "", summary(found) + " " + origin(found)]


def fill(path, lines, check):
    """Puts lines between the markers of a page. False when `check` and the page has something else."""
    old = path.read_text(encoding="utf-8")
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"programs_table: {path}: no '{BEGIN}' … '{END}'")
    new = f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{after}"
    if new != old and check:
        sys.stdout.writelines(difflib.unified_diff(
            old.splitlines(keepends=True), new.splitlines(keepends=True), str(path), "found"))
        return False
    if new != old:
        path.write_text(new, encoding="utf-8")
        print(f"programs_table: {path}")
    return True


def newest_complete():
    """The records of the newest run that compared and timed everything, or None."""
    for path in sorted((records.RESULTS / "programs").glob("*.jsonl"), reverse=True):
        runs = [r["run"] for r in records.all_of(path) if r["kind"] == "machine" and r["complete"]]
        if runs:
            return records.load(path, max(runs))
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a page is out of date")
    parser.add_argument("--results", help="result file (default: the newest complete run in bench/results/programs)")
    options = parser.parse_args()
    found = records.load(options.results) if options.results else newest_complete()
    if not found:
        sys.exit("programs_table: no complete run in bench/results/programs; run `make programs`")
    pages = ((ROOT / "README.md", readme(found)), (ROOT / "docs" / "parity.md", parity(found)))
    good = [fill(path, lines, options.check) for path, lines in pages]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
