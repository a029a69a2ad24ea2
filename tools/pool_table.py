#!/usr/bin/env python3
"""Writes the pool's measured tables into README.md and docs/pool.md, between <!-- pool:begin --> and <!-- pool:end -->.

    .venv/bin/python tools/pool_table.py [--check]

The figures are those of the newest run in bench/results/pools. With --check nothing is written, and the exit status is
1 when a document shows something else.
"""

import argparse
import difflib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))

import records  # noqa: E402  (bench/ is not a package)
from readme_table import markdown  # noqa: E402

BEGIN, END = "<!-- pool:begin -->", "<!-- pool:end -->"
# Section, field, what it is, how the figure is written.
COLUMNS = (
    ("submit", "per_s", "no-op tasks one by one, per s", "{:,.0f}"),
    ("map", "per_s", "`map` of a range of 200,000, items/s", "{:,.0f}"),
    ("map_list", "per_s", "of a list of 200,000 ints", "{:,.0f}"),
    ("arrays", "mb_per_s", "50 MB arrays returned, MB/s", "{:,.0f}"),
    ("start", "ms", "pool of 8: start, one task, stop, ms", "{:,.1f}"),
    ("latency", "p50_us", "round trip p50, µs", "{:,.1f}"),
    ("latency", "p50_us_1ms", "after 1 ms", "{:,.1f}"),
    ("latency", "p50_us_10ms", "after 10 ms", "{:,.1f}"),
    ("latency", "p50_us_100ms", "after 100 ms", "{:,.1f}"),
)
SHORT = (0, 1, 3, 4, 5)  # columns of the README


def cells(found, columns):
    """{pool: its row}"""
    rows = {}
    for n, (section, field, _, form) in enumerate(columns):
        for record in records.pick(found, "pool", section=section):
            if field in record:
                rows.setdefault(record["pool"], [""] * len(columns))[n] = form.format(record[field])
    return rows


def origin(found):
    machine = records.pick(found, "machine")[0]
    kind = "virtual machine" if machine["virtual"] else "machine"
    return (f"Two workers, best of several rounds. {machine['cpu']}, {machine['cores']}-core {kind}, "
            f"Linux {machine['kernel'].split('-')[0]}, {machine['python'].split(' (')[0]}, {machine['run'][:10]}, "
            f"commit {machine['commit']}, load average {machine['load']:.1f}.")


def table(found, columns, keep):
    rows = [[f"**{name}**" if name.startswith("Fork") else name, *row]
            for name, row in cells(found, columns).items() if keep(name)]
    return "\n".join([*markdown(["", *(c[2] for c in columns)], rows), "", origin(found)])


def replaced(path, text):
    """The document as it is and as it should be."""
    old = path.read_text(encoding="utf-8")
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"pool_table: {path}: no '{BEGIN}' … '{END}'")
    return old, f"{before}{BEGIN}\n{text}\n{END}{after}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a document is out of date")
    options = parser.parse_args()
    results = records.latest_path(records.RESULTS / "pools")
    if not results:
        sys.exit("pool_table: no results in bench/results/pools; run `make bench-pool`")
    found = records.load(results)
    wanted = {
        ROOT / "README.md": table(found, [COLUMNS[n] for n in SHORT], lambda name: not name.startswith("a ")),
        ROOT / "docs" / "pool.md": table(found, COLUMNS, lambda name: True),
    }
    status = 0
    for path, text in wanted.items():
        old, new = replaced(path, text)
        if old == new:
            continue
        if options.check:
            sys.stdout.writelines(difflib.unified_diff(
                old.splitlines(keepends=True), new.splitlines(keepends=True), str(path), "measured"))
            status = 1
        else:
            path.write_text(new, encoding="utf-8")
            print(f"pool_table: {path}: table of {results}")
    return status


if __name__ == "__main__":
    sys.exit(main())
