"""Locks that are held, and by whom as far as they say."""

from __future__ import annotations

import _thread
import collections
import re
import sys
import threading
from collections.abc import Iterable
from typing import Any

from warmfork._report import Finding, Make
from warmfork._where import Places, name_of

LOCK = type(_thread.allocate_lock())
RLOCK = type(threading.RLock())
OWNER = re.compile(r"owner=(\d+)")
# The standard library takes these before a fork, or makes them anew in the child.
RESET = {"logging._lock", "threading._active_limbo_lock", "concurrent.futures.thread._global_shutdown_lock"}


def classes() -> list[type]:
    """What to look for; conditions only to be able to say whose lock it is."""
    return [LOCK, RLOCK, threading.Condition]


def _is_held(lock: Any) -> bool:
    return lock.locked() if type(lock) is LOCK else repr(lock).startswith("<locked")


def _internal() -> set[int]:
    """Locks that live threads hold as long as they live."""
    locks = [getattr(t, "_tstate_lock", None) for t in threading.enumerate()]
    return {id(lock) for lock in (*locks, *getattr(threading, "_shutdown_locks", ()))}


def _is_waiter(lock: Any, places: Places) -> bool:
    """Who waits for a condition does so on a lock that is held, of its own; forked it is nobody's."""
    return type(lock) is LOCK and any(type(h) is collections.deque for h in places.holders(lock))


def findings(objects: Iterable[Any], places: Places, alone: bool, make: Make) -> list[Finding | None]:
    internal = _internal()
    held = [o for o in objects if isinstance(o, (LOCK, RLOCK)) and _is_held(o) and id(o) not in internal]
    held = [lock for lock in held if not _is_waiter(lock, places)]
    conditions = [o for o in objects if isinstance(o, threading.Condition)]
    places.prepare([*held, *conditions] if held else [])
    return [*(_finding(lock, places, alone, make) for lock in held), *_imports(make)]


def _place(lock: Any, places: Places) -> tuple[str, Any]:
    """Where it hangs, and what it belongs to: a condition says little, so its owner is asked as well."""
    where, owner = places.where(lock), places.owner(lock)
    if isinstance(owner, threading.Condition):
        outer = places.where(owner)
        return (f"{outer}._lock" if outer else where), places.owner(owner) or owner
    return where, owner


def _finding(lock: Any, places: Places, alone: bool, make: Make) -> Finding | None:
    where, owner = _place(lock, places)
    name = {LOCK: "Lock", RLOCK: "RLock"}[type(lock)]
    match = OWNER.search(repr(lock))
    ident = int(match[1]) if match else 0
    case = "alone" if alone or ident == threading.get_ident() else ""
    holder = ""
    if ident:
        thread = threading._active.get(ident)  # type: ignore[attr-defined]
        holder = " by this thread" if ident == threading.get_ident() else f" by {thread.name if thread else ident!r}"
    if where in RESET or _is_log_handler(owner):
        case = "reset"
    end = {
        "": "; in a child nobody would release it",
        "alone": "; in a child it would be as well",
        "reset": "; it is made anew in a child",
    }[case]
    return make(
        "lock",
        f"{'an' if name == 'RLock' else 'a'} {name} is held{holder}{end}",
        case=case,
        where=where,
        evidence={"class": name, "owner": ident or None, "of": _told(owner)},
        key=id(lock),
    )


def _is_log_handler(owner: Any) -> bool:
    """One whose lock the standard library makes anew after a fork."""
    handlers = getattr(sys.modules.get("logging"), "_at_fork_reinit_lock_weakset", ())
    return any(owner is handler for handler in handlers)


def _told(owner: Any) -> str | None:
    return owner if isinstance(owner, str) else None if owner is None else name_of(type(owner))


def _imports(make: Make) -> Iterable[Finding | None]:
    """Modules that another thread imports."""
    bootstrap = sys.modules["_frozen_importlib"]
    for name, ref in list(getattr(bootstrap, "_module_locks", {}).items()):
        lock = ref()
        owner = getattr(lock, "owner", None)
        if owner is not None and owner != threading.get_ident():
            yield make(
                "lock",
                f"the import lock of {name!r} is held by another thread; a child could not import it",
                where=name,
                fix="wait until no thread imports before forking",
                evidence={"class": "import lock", "owner": owner, "of": name},
                key=("import", name),
            )
