"""Output that is not written yet: parent and child would both write it."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterable
from typing import Any

from warmfork import _audit
from warmfork._report import Finding, Make
from warmfork._where import Places

CLASSES = (io.BufferedWriter, io.BufferedRandom, io.TextIOWrapper)
WORD = struct.calcsize("l")


class _Nowhere(io.RawIOBase):
    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return len(data)


def _learn(make: Callable[[], Any], unit: Any) -> int | None:
    """Which word of the object's structure counts what it holds back: the one that follows what we write.

    There is no other way to ask without flushing; each interpreter is asked by experiment, so that a change of the
    structure is noticed and not guessed.
    """
    stream = make()
    size = type(stream).__basicsize__
    states = [_audit.words(stream, size)]
    for count in (17, 23):
        stream.write(unit * count)
        states.append(_audit.words(stream, size))
    stream.flush()
    states.append(_audit.words(stream, size))
    for at, (empty, some, more, flushed) in enumerate(zip(*states, strict=True)):
        if empty in (0, -1) and (some, more) == (17, 40) and flushed in (0, -1):
            return at
    return None


_learned: dict[str, int | None] = {}


def _words() -> dict[str, int | None]:
    if not _learned:
        _learned["bytes"] = _learn(lambda: io.BufferedWriter(_Nowhere(), 8192), b"x")
        _learned["text"] = _learn(lambda: io.TextIOWrapper(io.BufferedWriter(_Nowhere(), 8192), encoding="utf-8"), "x")
    return _learned


def _pending(stream: Any) -> int:
    at = _words()["text" if isinstance(stream, io.TextIOWrapper) else "bytes"]
    return 0 if at is None else max(0, _audit.words(stream, (at + 1) * WORD)[at])


def findings(streams: Iterable[Any], places: Places, make: Make) -> list[Finding | None]:
    found: list[Finding | None] = []
    for kind, at in _words().items():
        if at is None:
            text = f"cannot see how many {kind} streams hold back: the interpreter's structures are not as known"
            found.append(make("unseen", text, evidence={"probe": kind, "codes": "unflushed-buffer"}, key=kind))
    held = [(s, n) for s in streams if (n := _pending(s)) > 0]
    places.prepare(s for s, _ in held)
    found += [_finding(stream, count, places, make) for stream, count in held]
    for name, count in zip(("stdout", "stderr"), _audit.stdio_pending(), strict=True):
        if count:
            text = f"C's {name} holds {count} bytes that parent and child would both write"
            found.append(make("unflushed-buffer", text, evidence={"bytes": count, "stream": name}, key=name))
    return found


def _finding(stream: Any, count: int, places: Places, make: Make) -> Finding | None:
    try:
        name = getattr(stream, "name", None)
        fd = stream.fileno()
    except (OSError, ValueError):
        name, fd = None, None
    text = f"{name if isinstance(name, str) else 'a stream'} holds {count} bytes that parent and child would both write"
    evidence = {"bytes": count, "stream": str(name), "descriptor": fd, "class": type(stream).__name__}
    return make("unflushed-buffer", text, where=places.where(stream), evidence=evidence, key=id(stream))
