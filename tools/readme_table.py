#!/usr/bin/env python3
"""Writes the measured table into README.md, between <!-- bench:begin --> and <!-- bench:end -->.

    .venv/bin/python tools/readme_table.py [--check] [--results FILE.jsonl] [--print]

The figures are those of the newest runs of bench/run.py and bench/terminal.py in bench/results (or of FILE's last).
With --check nothing is written, and the exit status is 1 when the README shows something else.
"""

import argparse
import difflib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))

import records  # noqa: E402  (bench/ is not a package)

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
NAMES = {
    "empty": "the empty program, without libc",
    "true": "`/bin/true`",
    "python3": "`python3 -c pass`",
    "warmpy nothing": "**`warmpy -c pass`**",
    "warmpy pandas": "**`warmpy -c pass`**, pandas preloaded",
    "warmpy scikit-learn": "**`warmpy -c pass`**, scikit-learn + SciPy + pandas preloaded",
}


def markdown(header, body):
    widths = "|".join(["---"] + ["---:"] * (len(header) - 1))
    rows = ["| " + " | ".join(row) + " |" for row in (header, *body)]
    return [rows[0], f"|{widths}|", *rows[1:]]


def spawn_table(found):
    body = []
    for command, name in NAMES.items():
        mine = {r["gap_ms"]: r for r in records.pick(found, "spawn", command=command)}
        if 5 not in mine:
            continue
        row = [name, *(records.time_text(mine[5][q]) for q in ("p50", "p90", "p99"))]
        body.append(row + [f"{mine[g]['ratio_p50']:.2f}" if g in mine else "" for g in (5, 0, 50)])
    if not body:
        return []
    header = ["from start to reaped, 5 ms between runs", "p50", "p90", "p99", "× `/bin/true`", "no gap", "50 ms gap"]
    return markdown(header, body)


def import_rows(found):
    rows = []
    for preload in dict.fromkeys(r["preload"] for r in records.pick(found, "import")):
        pair = {r["command"]: r for r in records.pick(found, "import", preload=preload)}
        if {"python3", "warmpy"} <= set(pair):
            cold, hot = pair["python3"]["p50"], pair["warmpy"]["p50"]
            figure = f"{records.time_text(hot)} instead of {records.time_text(cold)}: {cold / hot:.0f} × faster"
            rows.append([f"a script that does `{pair['warmpy']['code']}`", figure])
    return rows


def other_rows(found):
    rows = import_rows(found)
    first = {r["command"]: r for r in records.pick(found, "first")}
    if "warmpy, first ever" in first:
        cold, warm = (records.time_text(first[name]["p50"]) for name in ("python3", "warmpy, first ever"))
        rows.append(["the very first run, no daemon yet", f"{warm} (`python3`: {cold})"])
    sustained = records.pick(found, "sustained")
    if sustained:
        text = ", ".join(f"{r['warm_per_s']:,}/s ({r['ratio']:.2f})" for r in sustained)
        names = ", ".join(r["preload"] for r in sustained)
        rows.append([f"sustained runs with {names} preloaded (share of a bare fork loop on the same heap)", text])
    memory = records.pick(found, "memory")
    if memory:
        text = ", ".join(f"{max(r['private_kb']) / 1024:.1f} MB" for r in memory)
        rows.append([f"private memory of a standby worker, {', '.join(r['preload'] for r in memory)}", text])
    fork = {r["heap"]: r for r in records.pick(found, "fork")}
    if "warmfork" in fork:
        text = records.time_text(fork["warmfork"]["p50"])
        if "python3" in fork:
            text += f" (python's own heap: {records.time_text(fork['python3']['p50'])})"
        rows.append(["fork + exit + wait of a 1 GB Python heap", text])
    return rows


def terminal_rows(found):
    """What a program costs whose streams are a terminal, and how fast output passes through one of its own."""
    rows = []
    mine = {r["name"]: r for r in records.pick(found, "terminal")}
    kinds = {"warmpy, untouched terminal": "prints only", "warmpy, terminal of its own": "opens `/dev/tty`"}
    for name, text in kinds.items():
        if name in mine:
            figure = f"{records.time_text(mine[name]['p50'])}, {mine[name]['ratio_p50']:.2f} × `/bin/true`"
            rows.append([f"in a terminal, `warmpy -c …` that {text}", figure])
    for r in records.pick(found, "terminal_throughput", name="warmpy, cat"):
        figure = f"{r['share_of_plain']:.2f} of the plain terminal"
        rows.append([f"`cat` of {r['bytes'] / (1 << 30):.1g} GB as its child, through a terminal of its own", figure])
    return rows


def text_of(found, in_terminal):
    """The lines between the markers."""
    machine = records.pick(found, "machine")[0]
    lines = spawn_table(found)
    if not lines:
        sys.exit(f"readme_table: the run of {machine['run']} measured no runs with 5 ms between them")
    rest = other_rows(found) + terminal_rows(in_terminal)
    if rest:
        lines += ["", *markdown(["and", "measured"], rest)]
    kind = "virtual machine" if machine["virtual"] else "machine"
    lines += [
        "",
        f"{machine['cpu']}, {machine['cores']}-core {kind}, Linux {machine['kernel'].split('-')[0]}, "
        f"{machine['python'].split(' (')[0]}, {machine['run'][:10]}, commit {machine['commit']}. "
        "`make bench` measures yours; [docs/benchmarks.md](docs/benchmarks.md) says how.",
    ]
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail when README.md is out of date")
    parser.add_argument("--print", action="store_true", help="print the table and leave README.md alone")
    parser.add_argument("--results", help="result file (default: the newest in bench/results)")
    parser.add_argument("--readme", default=str(ROOT / "README.md"))
    options = parser.parse_args()
    results = options.results or records.latest_path(kind="spawn")
    if not results:
        sys.exit("readme_table: no results in bench/results; run `make bench`")
    in_terminal = []
    for kind in "terminal", "terminal_throughput":  # bench/terminal.py measures one of them alone, when asked
        path = options.results or records.latest_path(kind=kind)
        if path and any(r["kind"] == kind for r in records.all_of(path)):
            in_terminal += [r for r in records.load(path, kind=kind) if r["kind"] == kind]
    table = "\n".join(text_of(records.load(results, kind="spawn"), in_terminal))
    if options.print:
        print(table)
        return 0
    readme = Path(options.readme)
    old = readme.read_text(encoding="utf-8")
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"readme_table: {readme}: no '{BEGIN}' … '{END}'")
    new = f"{before}{BEGIN}\n{table}\n{END}{after}"
    if new == old:
        return 0
    if options.check:
        sys.stdout.writelines(difflib.unified_diff(
            old.splitlines(keepends=True), new.splitlines(keepends=True), str(readme), "measured"))
        return 1
    readme.write_text(new, encoding="utf-8")
    print(f"readme_table: {readme}: table of {results}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
