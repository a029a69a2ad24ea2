"""Hazards that hang on Python objects: one walk over the heap, then a look at what it found."""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Iterable
from typing import Any

from warmfork import _audit, _buffers, _known, _locks
from warmfork._report import Finding, Make
from warmfork._where import Places, article, name_of

FROZEN_BY_PYTHON = 1000  # 3.12 starts with 375 frozen objects, none of which a program made
MUCH = 64 << 20  # bytes that each child would copy
PAGE = 4096


def _resolve(name: str) -> type | None:
    """A class by its name, if its module is loaded: what is not loaded has no instances."""
    module, _, attribute = name.partition(":")
    cls = getattr(sys.modules.get(module), attribute, None)
    return cls if isinstance(cls, type) else None


class Heap:
    """What the walk found, once each, by class."""

    def __init__(self) -> None:
        self.kinds = [(kind, cls) for kind in _known.KINDS if (cls := _resolve(kind.name)) is not None]
        files = [c for n in ("socket:socket", "_io:FileIO") if (c := _resolve(n)) is not None]
        classes = {cls for _, cls in self.kinds} | set(files) | set(_buffers.CLASSES) | set(_locks.classes())
        self.environ = list(os.environ.items())  # no dict, which would be found
        key = max(os.environ, key=len, default="")
        count = len(self.environ)
        least, most = (count * 4 // 5, count * 5 // 4 + 2) if count > 3 else (1, 0)
        roots = None
        if gc.get_freeze_count() > FROZEN_BY_PYTHON:  # the collector does not show these
            roots = [sys.modules, *sys._current_frames().values()]
        pairs, self.objects, self.pages = _audit.walk(tuple(classes), key, least, most, roots)
        self.found = list({id(obj): obj for obj, _ in pairs}.values())
        self.places = Places(pairs)

    def clear(self) -> None:
        """Lets go of everything that was found."""
        self.found.clear()
        self.places.clear()

    def instances(self, classes: type | tuple[type, ...]) -> list[Any]:
        return [obj for obj in self.found if isinstance(obj, classes)]


def owners(heap: Heap) -> dict[int, str]:
    """Where the objects hang that hold a descriptor."""
    classes = tuple(c for n in ("socket:socket", "_io:FileIO") if (c := _resolve(n)) is not None)
    found: dict[int, str] = {}
    holders = heap.instances(classes) if classes else []
    heap.places.prepare(holders)
    for obj in holders:
        try:
            fd = obj.fileno()
        except (OSError, ValueError):
            continue
        if fd >= 0:
            found[fd] = found.get(fd) or heap.places.where(obj) or name_of(type(obj))
    return found


def findings(heap: Heap, alone: bool, make: Make) -> list[Finding | None]:
    """Findings of all objects; `alone`: no other thread is there."""
    found: list[Finding | None] = []
    for kind, cls in heap.kinds:
        found += _kind(heap, kind, cls, make)
    return [
        *found,
        *_locks.findings(heap.instances(tuple(_locks.classes())), heap.places, alone, make),
        *_buffers.findings(heap.instances(_buffers.CLASSES), heap.places, make),
        *_snapshots(heap, make),
        _collector(heap, make),
    ]


def _state(kind: _known.Kind, obj: Any) -> object:
    """What the policy's own test of the object says; what cannot be asked counts as open."""
    try:
        return kind.is_open(obj)
    except Exception as error:  # a closed sqlite connection says so in this way; any driver may do as it likes
        return False if "closed" in str(error).lower() or isinstance(error, ReferenceError) else repr(error)


def _kind(heap: Heap, kind: _known.Kind, cls: type, make: Make) -> Iterable[Finding | None]:
    instances = [(obj, state) for obj in heap.instances(cls) if (state := _state(kind, obj))]
    heap.places.prepare(obj for obj, _ in instances)
    handle = HANDLERS.get(kind.code, _plain)
    for obj, state in instances:
        where = heap.places.where(obj)
        detail = f" ({state})" if isinstance(state, str) else ""
        yield handle(obj, kind, where, detail, make)


def _plain(obj: Any, kind: _known.Kind, where: str, detail: str, make: Make) -> Finding | None:
    text = {
        "database": "is open, and parent and child would use one connection",
        "socket": "is open, and parent and child would use one connection",
        "executor": "has workers that would not exist in a child, and would wait for them for ever",
    }[kind.code]
    case = "processes" if type(obj).__name__ == "ProcessPoolExecutor" else "client" if kind.code == "socket" else ""
    return make(
        kind.code,
        f"{article(name_of(type(obj)))} {text}{detail}",
        case=case,
        where=where,
        fix=kind.fix,
        evidence={"class": name_of(type(obj)), "known_as": kind.name},
        key=id(obj),
    )


def _event_loop(obj: Any, _kind: _known.Kind, where: str, _detail: str, make: Make) -> Finding | None:
    running = obj.is_running()
    here = getattr(sys.modules.get("asyncio"), "_get_running_loop", lambda: None)() is obj
    state = "runs in this thread" if here else "runs in another thread" if running else "is open"
    return make(
        "event-loop",
        f"{article(name_of(type(obj)))} {state}: a child would share its selector, and cannot go on with its tasks",
        case="" if running else "idle",
        where=where,
        evidence={"class": name_of(type(obj)), "running": running},
        key=id(obj),
    )


def _generator(obj: Any, kind: _known.Kind, where: str, _detail: str, make: Make) -> Finding | None:
    if kind.name == "random:Random":
        standard = sys.modules["random"]
        if obj is standard._inst or isinstance(obj, standard.SystemRandom):
            return None  # seeded anew by the standard library after a fork; has no state
        if where.startswith("tempfile."):
            return None  # minds the process id
    return make(
        "random-state",
        f"{article(name_of(type(obj)))} has a state that all children would start from",
        where=where,
        evidence={"class": name_of(type(obj))},
        key=(name_of(type(obj)), where),
    )


HANDLERS = {"event-loop": _event_loop, "random-state": _generator}


def _snapshots(heap: Heap, make: Make) -> Iterable[Finding | None]:
    """Dicts that hold what os.environ holds: children that get another environment would not be asked again."""
    environ = heap.environ
    copies = []
    for obj in heap.found:
        if type(obj) is dict:
            same = sum(obj.get(key) == value for key, value in environ)
            if same * 10 >= len(environ) * 9:
                copies.append(obj)
    heap.places.prepare(copies)
    for obj in copies:
        where, evidence = heap.places.where(obj), {"variables": len(obj)}
        yield make("env-snapshot", "a copy of the environment is kept", where=where, evidence=evidence, key=id(obj))


def _collector(heap: Heap, make: Make) -> Finding | None:
    """Before a fork, objects can be put where collections do not write to them."""
    frozen, size = gc.get_freeze_count(), heap.pages * PAGE
    if frozen > FROZEN_BY_PYTHON and heap.objects < FROZEN_BY_PYTHON:
        return None
    return make(
        "gc",
        f"the first collection in each child writes to {size / 1048576:.1f} MB that it would otherwise share "
        f"({heap.objects} objects are not frozen)",
        case="much" if size >= MUCH else "",
        evidence={"objects": heap.objects, "frozen": frozen, "pages": heap.pages, "bytes": size},
        key="gc",
    )


def other_threads() -> bool:
    """Whether the interpreter knows of another thread."""
    return len(sys._current_frames()) > 1 or threading.active_count() > 1
