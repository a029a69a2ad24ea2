"""The progress bar of a `ForkExecutor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from warmfork._crew import Crew


class Bar:
    """tqdm's bar (also its widget, in notebooks), moved on as tasks end. ImportError without tqdm."""

    def __init__(self, crew: Crew, name: str | None) -> None:
        from tqdm.auto import tqdm

        self._crew = crew
        class Quiet(tqdm):  # type: ignore[misc,type-arg,unused-ignore]
            monitor_interval = 0  # no thread of its own: workers are forked from this process

        self._bar = Quiet(total=0, desc=name, unit="task")
        crew.on_end = self._move

    def _move(self) -> None:
        bar, crew = self._bar, self._crew
        total = crew.ended + len(crew.engine.items)
        if total > (bar.total or 0):
            bar.total = total
        bar.update(crew.ended - bar.n)

    def close(self) -> None:
        self._move()
        self._crew.on_end = None
        self._bar.close()
