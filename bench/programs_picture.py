"""Draws docs/img/programs.svg and .png from a run's records: what real programs take, cold and warm.

    .venv/bin/python bench/programs_picture.py [RESULTS.jsonl]      draws the newest results again
"""

import sys

import picture
import records

WAYS = (("python3", picture.COLD), ("warmpy", picture.TRUE), ("warmpy with preload", picture.WARM))
NAMES = {"python3": "python3", "warmpy": "warmpy", "warmpy with preload": "warmpy, the tool preloaded"}


def timed(found):
    """The records that have times, slowest under python first."""
    rows = [r for r in records.newest(found, "program", "tool", "what") if "times" in r and not r["faults"]]
    return sorted(rows, key=lambda r: -r["times"]["python3"]["p50"])


def draw(found, stem):
    """Writes STEM.svg and STEM.png; returns their paths, or nothing where that cannot be."""
    rows = timed(found)
    pyplot = picture.prepare() if rows else None
    if pyplot is None:
        return []
    figure, axes = pyplot.subplots(figsize=(11, 1.5 + 0.29 * len(rows)))
    for y, r in enumerate(rows):
        medians = [r["times"][way]["p50"] for way, _ in WAYS]
        axes.plot([min(medians), max(medians)], [y, y], color=picture.GRID, linewidth=2, zorder=1)
        for (way, color), median in zip(WAYS, medians, strict=True):
            axes.plot(median, y, "o", color=color, markersize=7, label=NAMES[way] if y == 0 else None)
        axes.annotate(f"{medians[0] / medians[2]:.1f} ×" if medians[0] < 10 * medians[2] else
                      f"{medians[0] / medians[2]:.0f} ×", (max(medians), y), xytext=(10, 0),
                      textcoords="offset points", va="center", color=picture.INK, fontsize=9)
    axes.set_xscale("log")
    ticks = {1000: "1 ms", 3000: "3 ms", 10000: "10 ms", 30000: "30 ms", 100000: "0.1 s", 300000: "0.3 s",
             1000000: "1 s", 3000000: "3 s", 10000000: "10 s"}
    low, high = axes.get_xlim()
    axes.set_xlim(low, high * 1.3)
    axes.set_xticks([t for t in ticks if low <= t <= high], [name for t, name in ticks.items() if low <= t <= high])
    axes.minorticks_off()
    axes.set_yticks(range(len(rows)), [f"{r['tool']}: {r['what']}" for r in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="x", color=picture.GRID)
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, labelcolor=picture.INK)
    axes.set_xlabel("median of whole runs, in turn; logarithmic; how many times faster than python3 with the preload",
                    color=picture.FAINT)
    return picture.save(figure, stem, found, "posix_spawn to end, the three ways in turn")


def latest():
    """The newest result file of programs, or None."""
    return records.latest_path(records.RESULTS / "programs")


def main():
    path = sys.argv[1] if len(sys.argv) > 1 else latest()
    if not path:
        sys.exit("programs_picture: no results in bench/results/programs; run `make programs`")
    for drawn in draw(records.load(path), records.ROOT / "docs" / "img" / "programs"):
        print(f"drew {drawn}")


if __name__ == "__main__":
    main()
