"""Says where an object hangs: which module's variable, or which object's attribute, it is."""

from __future__ import annotations

import collections
import functools
import gc
import io
import sys
import types
from collections.abc import Iterable
from typing import Any

CONTAINERS = (list, tuple, set, frozenset, collections.deque, types.CellType)
SAYS_NOTHING = (functools._lru_cache_wrapper, types.MethodType, types.BuiltinMethodType)


def name_of(cls: type) -> str:
    """A class as people write it."""
    module = cls.__module__
    return cls.__qualname__ if module in ("builtins", "__main__") else f"{module}.{cls.__qualname__}"


def article(name: str) -> str:
    """The name with `a` or `an` before it."""
    return f"an {name}" if name[:1].lower() in "aeio" else f"a {name}"


def place_of(function: Any) -> str:
    """File and line of a function, or ""."""
    function = getattr(function, "__func__", function)
    function = getattr(function, "func", function)  # functools.partial
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else ""


def frame_place(frame: types.FrameType | None) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}" if frame is not None else ""


class Places:
    """Finds out for many objects at once, since each look at who refers to something walks all objects.

    `pairs` are objects with what refers to them, as `_audit.walk` gives them.
    """

    def __init__(self, pairs: Iterable[tuple[Any, Any]]) -> None:
        self._holders: dict[int, list[Any]] = {}
        for obj, holder in pairs:
            if holder is not None and not isinstance(holder, SAYS_NOTHING):
                self._holders.setdefault(id(obj), []).append(holder)
        self._modules: dict[int, str] = {}  # by the dict that a module has
        for name, module in list(sys.modules.items()):
            if hasattr(module, "__dict__"):
                self._modules.setdefault(id(vars(module)), name)
        self._owners: dict[int, Any] = {}  # of dicts that are objects' attributes
        self._asked: set[int] = set()

    def holders(self, obj: Any) -> list[Any]:
        return self._holders.get(id(obj), [])

    def prepare(self, objects: Iterable[Any]) -> None:
        """Finds out what holds the things that hold these objects: containers first, then their dicts."""
        objects = list(objects)
        holders = [h for o in objects for h in self.holders(o)]
        containers = self._new([h for h in holders if isinstance(h, CONTAINERS)])
        if containers:
            for referrer in gc.get_referrers(*containers):
                if referrer is not holders and referrer is not containers and not isinstance(referrer, types.FrameType):
                    self._note_container(referrer, containers)
        dicts = self._new([h for o in (*containers, *objects) for h in self.holders(o) if type(h) is dict])
        dicts = [d for d in dicts if id(d) not in self._modules]
        if dicts:
            self._note_owners(dicts, set(map(id, dicts)))

    def _new(self, things: list[Any]) -> list[Any]:
        fresh = {id(t): t for t in things if id(t) not in self._asked}
        self._asked.update(fresh)
        return list(fresh.values())

    def _note_container(self, referrer: Any, containers: list[Any]) -> None:
        inside = referrer if type(referrer) is dict else getattr(referrer, "__dict__", None)
        if isinstance(inside, dict):
            values = set(map(id, list(inside.values())))
            for container in containers:
                if id(container) in values:
                    self._holders.setdefault(id(container), []).append(referrer)

    def _note_owners(self, dicts: list[Any], wanted: set[int]) -> None:
        for referrer in gc.get_referrers(*dicts):
            if referrer is dicts or isinstance(referrer, (dict, *CONTAINERS)):
                continue
            inner = getattr(referrer, "__dict__", None)
            if id(inner) in wanted:
                self._owners[id(inner)] = referrer

    def owner(self, obj: Any) -> Any:
        """The object, or the module's name, that the object is an attribute of; None when it is none."""
        for holder in self.holders(obj):
            if type(holder) is dict:
                found = self._modules.get(id(holder)) or self._owners.get(id(holder))
            else:
                found = holder if _key(getattr(holder, "__dict__", None), obj) else None
            if found is not None:
                return found
        return None

    def where(self, obj: Any) -> str:
        """Like `app.lock`, `in app.locks`, `a local variable of run (...)`; "" when that is not known."""
        told = [t for t in (self._tell(holder, obj) for holder in self.holders(obj)) if t[1]]
        return min(told, default=(0, ""))[1]

    def _tell(self, holder: Any, obj: Any) -> tuple[int, str]:
        """In words, and how little they say."""
        if type(holder) is dict:
            return self._tell_dict(holder, obj)
        if isinstance(holder, types.FrameType):
            return 3, f"a local variable of {holder.f_code.co_name} ({holder.f_code.co_filename}:{holder.f_lineno})"
        if isinstance(holder, types.FunctionType):
            return 2, f"{holder.__module__}.{holder.__qualname__}"
        if isinstance(holder, CONTAINERS):
            outer = [self._tell(h, holder) for h in self.holders(holder) if not isinstance(h, CONTAINERS)]
            level, text = min(outer, default=(9, ""))
            return (2, f"in {text}") if level < 2 else (5, article(name_of(type(holder))))
        if isinstance(holder, io.IOBase):  # a file is one thing to its user
            return 1, self.where(holder)
        key = _key(getattr(holder, "__dict__", None), obj)
        return (1, f"{name_of(type(holder))}.{key}") if key else (4, article(name_of(type(holder))))

    def _tell_dict(self, holder: Any, obj: Any) -> tuple[int, str]:
        key, module, owner = _key(holder, obj), self._modules.get(id(holder)), self._owners.get(id(holder))
        if module is not None and key:
            return 0, f"{module}.{key}"
        if isinstance(owner, SAYS_NOTHING) or key == "__wrapped__":
            return 9, ""
        return (1, f"{name_of(type(owner))}.{key}") if owner is not None and key else (5, f"a dict (key {key!r})")

    def clear(self) -> None:
        """Lets go of everything: what was found may hold the frame that found it."""
        self._holders.clear()
        self._owners.clear()


def _key(mapping: Any, obj: Any) -> str | None:
    if not isinstance(mapping, dict):
        return None
    return next((str(key) for key, value in list(mapping.items()) if value is obj), None)
