#!/usr/bin/env python3
"""Compares two runs figure by figure.

    .venv/bin/python bench/compare.py A.jsonl B.jsonl [--run-a RUN] [--run-b RUN] [--threshold PERCENT]

Each file's last run is taken unless one is named (`A.jsonl` may be `B.jsonl`). Runs at different hours are compared by
their ratios to /bin/true, measured in the same minutes, wherever there is one. A figure that is worse by more than
the threshold (default 10 %) is marked; the exit status is 1 then, so that a script can tell.
"""

import argparse
import sys

import records

# kind: (fields that name the figure, the figure's field, its unit, +1 when more is better)
FIGURES = {
    "spawn": [(("command", "gap_ms"), "ratio_p50", "× true", -1), (("command", "gap_ms"), "ratio_p99", "× true", -1)],
    "sustained": [(("preload",), "ratio", "of raw", 1), (("preload",), "warm_per_s", "/s", 1)],
    "memory": [(("preload",), "worst_kb", "kB", -1)],
    "fork": [(("heap",), "p50", "µs", -1)],
    "first": [(("command",), "ratio_python", "× python3", -1)],
    "import": [(("command", "preload"), "p50", "µs", -1)],
}


def figures(found):
    """{name of the figure: (value, unit, direction)} of one run."""
    out = {}
    for kind, wanted in FIGURES.items():
        for record in records.pick(found, kind):
            for names, field, unit, direction in wanted:
                if field in record:
                    label = " ".join(str(record[n]) for n in names) + (" ms gap" if "gap_ms" in names else "")
                    out[f"{kind}: {label}, {field}"] = (record[field], unit, direction)
    return out


def print_machine(letter, path, found):
    m = records.pick(found, "machine")[0]
    print(f"{letter}  {path} {m['run']}: {m['host']}, {m['cpu']} × {m['cores']}, Linux {m['kernel']}, "
          f"{m['python'].split(' (')[0]}, commit {m['commit']}{' + changes' if m['modified'] else ''}")
    return m


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("a")
    parser.add_argument("b")
    parser.add_argument("--run-a", help="a run in A, as in the field 'run' (default: the last)")
    parser.add_argument("--run-b", help="a run in B (default: the last)")
    parser.add_argument("--threshold", type=float, default=10, help="percent that counts as worse (default: 10)")
    options = parser.parse_args()
    a, b = records.load(options.a, options.run_a), records.load(options.b, options.run_b)
    machines = print_machine("A", options.a, a), print_machine("B", options.b, b)
    for field in ("cpu", "cores", "kernel", "python", "packages"):
        if machines[0][field] != machines[1][field]:
            print(f"note: {field} differs; only the ratios can be compared")
    first, second = figures(a), figures(b)
    worse = 0
    for name in [*first, *(n for n in second if n not in first)]:
        if name not in first or name not in second:
            print(f"{name:<58} only in {'A' if name in first else 'B'}")
            continue
        (old, unit, direction), new = first[name], second[name][0]
        change = (new / old - 1) * 100 if old else 0.0
        bad = -direction * change > options.threshold
        worse += bad
        print(f"{name:<58} {old:>11.6g} {new:>11.6g} {unit:<10} {change:+7.1f} %{'  WORSE' if bad else ''}")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
