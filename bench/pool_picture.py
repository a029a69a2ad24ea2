"""Draws docs/img/pool.svg and .png from a run of bench/pool.py.

    .venv/bin/python bench/pool_picture.py [RESULTS.jsonl]      draws the newest results again
"""

import sys
from pathlib import Path

import records

STEM = Path(records.ROOT) / "docs" / "img" / "pool"
# Section, field, title, unit.
PANELS = (
    ("submit", "per_s", "No-op tasks, one by one", "tasks per second"),
    ("map", "per_s", "map over range(200,000)", "items per second"),
    ("arrays", "mb_per_s", "50 MB arrays returned", "MB per second"),
    ("start", "ms", "Pool of 8: start, one task, stop", "milliseconds, less is better"),
    ("latency", "p50_us", "Round trip, back to back", "µs, less is better"),
    ("latency", "p50_us_10ms", "Round trip after 10 ms of rest", "µs, less is better"),
)


def text_of(value):
    return f"{value / 1e6:.1f} M" if value >= 1e6 else f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def color_of(picture, name):
    return picture.WARM if name.startswith("Fork") else picture.GRID if name.startswith("a ") else picture.EMPTY


def panel(axes, picture, rows, field, title, unit):
    most = max(r[field] for r in rows)
    for y, row in enumerate(rows):
        axes.barh(y, row[field], height=0.7, color=color_of(picture, row["pool"]))
        axes.text(row[field] + most * 0.02, y, text_of(row[field]), va="center", color=picture.INK)
    axes.set_yticks(range(len(rows)), [r["pool"] for r in rows], color=picture.INK)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.set_xlim(0, most * 1.25)
    axes.set_xticks([])
    axes.set_title(f"{title}\n", loc="left", fontsize=11, fontweight="bold", color=picture.INK)
    axes.text(0, 1.03, unit, transform=axes.transAxes, color=picture.FAINT, fontsize=9)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    axes.spines["left"].set_color(picture.GRID)


def draw(found):
    try:
        import matplotlib
    except ImportError:
        print("bench: no picture: matplotlib is not installed", file=sys.stderr)
        return
    matplotlib.use("Agg")
    import picture
    from matplotlib import pyplot

    matplotlib.rcParams.update({"svg.fonttype": "path", "svg.hashsalt": "warmfork", "font.size": 9.5})
    panels = [p for p in PANELS if any(p[1] in r for r in records.pick(found, "pool", section=p[0]))]
    lines = (len(panels) + 1) // 2
    figure, grid = pyplot.subplots(lines, 2, figsize=(10, 2.75 * lines + 0.3), squeeze=False)
    for axes in grid.flat[len(panels):]:
        axes.set_visible(False)
    for axes, (section, field, title, unit) in zip(grid.flat, panels, strict=False):
        rows = [r for r in records.pick(found, "pool", section=section) if field in r]
        panel(axes, picture, rows, field, title, unit)
    figure.tight_layout(rect=(0, 0.03, 1, 1), h_pad=1.5, w_pad=2)
    load = records.pick(found, "machine")[0]["load"]
    caption = picture.caption(found, f"two workers, best of several rounds, load average {load:.1f}")
    figure.text(0.01, 0.008, caption, color=picture.FAINT, fontsize=8.5)
    for suffix in (".svg", ".png"):
        metadata = {"metadata": {"Date": None}} if suffix == ".svg" else {"dpi": 110}
        figure.savefig(STEM.with_suffix(suffix), **metadata)
        print(f"drew {STEM.with_suffix(suffix)}")
    pyplot.close(figure)


if __name__ == "__main__":
    path = sys.argv[1] if len(sys.argv) > 1 else records.latest_path(records.RESULTS / "pools")
    if not path:
        sys.exit("pool_picture: no results in bench/results/pools")
    draw(records.load(path))
