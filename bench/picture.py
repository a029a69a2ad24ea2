"""Draws docs/img/bench.svg and .png from a run's records: how long one run takes, and its ratio to /bin/true.

    .venv/bin/python bench/picture.py [RESULTS.jsonl]      draws the newest results again
"""

import sys

import records

INK, FAINT, GRID = "#1f2430", "#6b7280", "#e3e6ea"
WARM, TRUE, EMPTY, COLD = "#0f7b6c", "#3b6fb6", "#9aa3ad", "#c2552d"
WARM_SHADES = (WARM, "#4fa094", "#92c5bd")
GAP = 5  # ms; the gap that the left panel shows

LABELS = {
    "empty": "empty program",
    "true": "/bin/true",
    "python3": "python3 -c pass",
    "warmpy nothing": "warmpy -c pass",
    "warmpy pandas": "warmpy -c pass, pandas loaded",
    "warmpy scikit-learn": "warmpy -c pass, scikit-learn loaded",
}


def color_of(command):
    if command.startswith("warmpy"):
        return WARM
    return {"empty": EMPTY, "true": TRUE}.get(command, COLD)


def rows(found):
    """(label, record, colour) from fastest to slowest: the spawn figures, then scripts that import."""
    spawn = records.pick(found, "spawn", gap_ms=GAP)
    out = [(LABELS.get(r["command"], r["command"]), r, color_of(r["command"])) for r in spawn]
    for r in records.pick(found, "import"):
        what = {"pandas": "import pandas", "scikit-learn": "import sklearn, scipy, pandas"}.get(r["preload"], r["code"])
        out.append((f"{r['command']} -c '{what}'", r, color_of(r["command"])))
    return sorted(out, key=lambda row: row[1]["p50"])


def draw_times(axes, found):
    """A dot at the median, a thin line from p10 to p99, on a logarithmic axis."""
    table = rows(found)
    for y, (_, r, color) in enumerate(table):
        axes.plot([r["p10"], r["p99"]], [y, y], color=color, alpha=0.4, linewidth=2.5, solid_capstyle="round")
        axes.plot(r["p50"], y, "o", color=color, markersize=8)
        axes.annotate(records.time_text(r["p50"]), (r["p99"], y), xytext=(9, 0), textcoords="offset points",
                      va="center", color=color, fontsize=10, fontweight="bold")
    axes.set_xscale("log")
    axes.set_xlim(100, max(r["p99"] for _, r, _ in table) * 4)
    ticks = [t for t in (100, 1000, 10000, 100000, 1000000) if t <= axes.get_xlim()[1]]
    names = {100: "0.1 ms", 1000: "1 ms", 10000: "10 ms", 100000: "100 ms", 1000000: "1 s"}
    axes.set_xticks(ticks, [names[t] for t in ticks])
    axes.minorticks_off()
    axes.set_yticks(range(len(table)), [label for label, _, _ in table])
    axes.set_ylim(len(table) - 0.4, -0.6)
    axes.set_title("One run, from start to finish", loc="left", color=INK, fontsize=12, fontweight="bold")
    axes.set_xlabel(f"median (dot), 10th to 99th percentile (line); {GAP} ms between runs; logarithmic", color=FAINT)
    axes.grid(axis="x", color=GRID)


def draw_ratios(axes, found):
    """Grouped bars: each preload at each gap, as a multiple of /bin/true in the same minutes."""
    gaps = sorted({r["gap_ms"] for r in records.pick(found, "spawn")})
    names = [c for c in LABELS if c.startswith("warmpy") and records.pick(found, "spawn", command=c)]
    for i, gap in enumerate(gaps):
        for j, name in enumerate(names):
            ratio = records.pick(found, "spawn", command=name, gap_ms=gap)[0]["ratio_p50"]
            x = i + (j - (len(names) - 1) / 2) * 0.27
            axes.bar(x, ratio, width=0.24, color=WARM_SHADES[j % 3],
                     label=name.removeprefix("warmpy ") if i == 0 else None)
            axes.text(x, ratio + 0.015, f"{ratio:.2f}", ha="center", va="bottom", color=INK, fontsize=9)
    axes.axhline(1, color=TRUE, linewidth=1.5)
    axes.text(len(gaps) - 0.55, 1.015, "/bin/true", color=TRUE, ha="right", va="bottom", fontsize=10)
    axes.set_xticks(range(len(gaps)), [f"{gap} ms" if gap else "none" for gap in gaps])
    axes.set_xlabel("time between runs", color=FAINT)
    tallest = max([1.0] + [r["ratio_p50"] for n in names for r in records.pick(found, "spawn", command=n)])
    axes.set_ylim(0, tallest * 1.32)
    axes.set_title("warmpy -c pass, as a multiple of /bin/true", loc="left", color=INK, fontsize=12, fontweight="bold")
    axes.legend(frameon=False, loc="upper left", ncols=3, fontsize=9, labelcolor=INK, title="preloaded:",
                title_fontsize=9, alignment="left", handlelength=1, columnspacing=1.3, handletextpad=0.5)
    axes.grid(axis="y", color=GRID)


def caption(found, how):
    machine = records.pick(found, "machine")[0]
    kind = "virtual machine" if machine["virtual"] else "machine"
    return (f"{machine['cpu']}, {machine['cores']}-core {kind}, Linux {machine['kernel'].split('-')[0]}, "
            f"{machine['python'].split(' (')[0]}; {how}; "
            f"{machine['run'][:10]}, commit {machine['commit']}")


def prepare():
    """matplotlib's pyplot in our style; None (and a word about it) where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        print("bench: no picture: matplotlib is not installed (pip install matplotlib)", file=sys.stderr)
        return None
    matplotlib.use("Agg")
    matplotlib.rcParams.update({
        "svg.fonttype": "path", "svg.hashsalt": "warmfork", "font.size": 10, "text.color": INK, "xtick.color": INK,
        "ytick.color": INK, "axes.edgecolor": GRID, "axes.axisbelow": True, "figure.facecolor": "white",
        "axes.facecolor": "white", "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
        "xtick.major.size": 0, "ytick.major.size": 0,
    })
    from matplotlib import pyplot

    return pyplot


def save(figure, stem, found, how):
    """Writes the figure with its caption, which says `how`, as STEM.svg and STEM.png; returns their paths."""
    from matplotlib import pyplot

    bottom = 0.22 / figure.get_figheight()
    figure.tight_layout(rect=(0, bottom, 1, 1), w_pad=3)
    figure.text(0.012, bottom * 0.4, caption(found, how), color=FAINT, fontsize=8.5)
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_suffix(".svg"), stem.with_suffix(".png")]
    figure.savefig(paths[0], metadata={"Date": None})
    figure.savefig(paths[1], dpi=130)
    pyplot.close(figure)
    return paths


def draw(found, stem):
    """Writes STEM.svg and STEM.png; returns their paths, or nothing where matplotlib is not installed."""
    pyplot = prepare()
    if pyplot is None:
        return []
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(13, 4.9), gridspec_kw={"width_ratios": [1.12, 1]})
    draw_times(left, found)
    draw_ratios(right, found)
    return save(figure, stem, found, "posix_spawn to reaped, programs interleaved in random order")


def main():
    path = sys.argv[1] if len(sys.argv) > 1 else records.latest_path(kind="spawn")
    if not path:
        sys.exit("picture: no results in bench/results; run `make bench`")
    for drawn in draw(records.load(path, kind="spawn"), records.ROOT / "docs" / "img" / "bench"):
        print(f"drew {drawn}")


if __name__ == "__main__":
    main()
