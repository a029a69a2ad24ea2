"""How functions, arguments and exceptions travel between a pool and its workers.

A function is named by bytes (its key):

* `R`: by module and name. With the object's id and the hash of its code when the module was there before the fork, so
  that a worker does not take an older function of the same name for it.
* `I`: by id: it existed before the fork, and its weak reference in the inventory shows that it is still the same
object.
* `V`: by value, pickled (cloudpickle if need be).
"""

from __future__ import annotations

import inspect
import pickle
import struct
import sys
import threading
import traceback
import types
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from warmfork._failures import RemoteError, RemoteTraceback
from warmfork._queue import local_functions

# Kinds of tasks; src/queue/module.h has those that C knows.
CALL, CALL_NAMED, MAP, STARMAP = 0, 1, 2, 3
# Kinds of results.
NONE, VALUE, ERROR, BAD = 0, 1, 2, 4
UNKNOWN_FUNCTION, BROKEN = 5, 6
SEGMENTS = 0x100
WITH_FUNCTION = 0x200  # the arguments are a pair: function and arguments proper

_FRAMES = 256  # of each thread, whose variables are looked at

RECORD = struct.Struct("=QQQQIIII")  # struct wf_result: task, started, ended, cpu, peak, kind, size, worker

# What pickle raises for what it cannot name, and cloudpickle perhaps can.
UNPICKLABLE = (pickle.PicklingError, AttributeError, TypeError)

Function = Callable[..., Any]


class UnknownFunction(Exception):
    """A worker does not have the function that a key names: it is to be sent by value."""


class Inventory:
    """The functions that existed when a worker was forked and have no importable name.

    Those that the running frames lead to are found; one that is not found is sent by value. If it cannot be sent, it
    is noted here, and a worker that is forked from now on has it.
    """

    def __init__(self, also: Iterable[Function] = ()) -> None:
        self.named: dict[int, Function] = {id(f): f for f in also}
        self.modules = frozenset(sys.modules)
        self.functions = local_functions([*also, *_surroundings()], types.FunctionType)

    def note(self, function: Function) -> None:
        try:
            self.functions[id(function)] = weakref.ref(function)
        except TypeError:
            self.named[id(function)] = function

    def has(self, function: Function) -> bool:
        number = id(function)
        if self.named.get(number) is function:
            return True
        found = self.functions.get(number)
        return found is not None and found() is function

    def get(self, number: int) -> Function:
        if number in self.named:
            return self.named[number]
        found = self.functions.get(number)
        function = found() if found is not None else None
        if function is None:
            raise UnknownFunction
        return function  # type: ignore[no-any-return]


def _surroundings() -> list[Any]:
    """Where to look for functions, the nearest first: local variables of all threads' frames, then those of modules."""
    found: list[Any] = []
    modules: dict[int, Any] = {}
    threads = sys._current_frames()
    # Not this frame itself: it would refer to itself by what is found in it.
    threads[threading.get_ident()] = sys._getframe(1)
    for innermost in threads.values():
        frame: types.FrameType | None = innermost
        for _ in range(_FRAMES):
            if frame is None:
                break
            modules[id(frame.f_globals)] = frame.f_globals
            if frame.f_code.co_flags & inspect.CO_OPTIMIZED:
                found.append(_locals(frame))
            frame = frame.f_back
    return found + list(modules.values())


def _locals(frame: types.FrameType) -> list[Any]:
    """The values of a frame's local variables."""
    variables = frame.f_locals
    values = list(variables.values())
    # Before 3.13 this is a dict that the frame keeps from now on. Unless somebody else has it (who has called
    # locals()), it is not to keep anything alive.
    if type(variables) is dict and sys.getrefcount(variables) <= 3:
        variables.clear()
    return values


class ByValue:
    """Pickles as what `data` unpickles to."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce__(self) -> tuple[Any, ...]:
        return pickle.loads, (self.data,)


NO_KEY = struct.pack("=I", 1) + b"N"


def _framed(key: bytes) -> bytes:
    return struct.pack("=I", len(key)) + key


def _by_name(function: Any, inventory: Inventory) -> bytes | None:
    """The key of something that its module has under its name, or None."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or "<" in name:
        return None
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is not function:
        return None
    text = f"{module}\0{name}".encode()
    code = getattr(function, "__code__", None)
    if module in inventory.modules and code is not None:
        return b"R" + struct.pack("=Qq", id(function), hash(code)) + text
    return b"R" + bytes(16) + text


def key_by_id(function: Function) -> bytes:
    """For a function that the worker inherited."""
    return _framed(b"I" + struct.pack("=Q", id(function)))


def function_key(function: Function, inventory: Inventory, *, by_value: bool = False) -> tuple[bytes, bool]:
    """The framed key of a function, and whether it stays true as long as the function lives.

    Raises what pickle raises for a function that cannot be sent.
    """
    if not by_value:
        if inventory.has(function):
            return key_by_id(function), True
        if isinstance(function, types.FunctionType | types.BuiltinFunctionType | type):
            key = _by_name(function, inventory)
            if key is not None:
                return _framed(key), True
    if isinstance(function, types.FunctionType):
        return _framed(b"V" + dumps_by_value(_nameless(function), local=True)), False
    return _framed(b"V" + dumps_by_value(function)), False


def _nameless(function: types.FunctionType) -> types.FunctionType:
    """A copy that cloudpickle will not look for under its name, where another one may be by now."""
    copy = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__qualname__ = function.__qualname__
    copy.__dict__.update(function.__dict__)
    copy.__module__ = "__main__"
    return copy


def _no_function() -> None: ...


def resolve(key: bytes, inventory: Inventory) -> tuple[Function, bool]:
    """In a worker: the function of a key without its frame, and whether it may be kept.

    Raises UnknownFunction when this worker does not have it.
    """
    if key[:1] == b"I":
        return inventory.get(struct.unpack_from("=Q", key, 1)[0]), True
    if key[:1] == b"N":
        return _no_function, True
    if key[:1] == b"V":
        return pickle.loads(memoryview(key)[1:]), False
    number, code = struct.unpack_from("=Qq", key, 1)
    module, _, name = key[17:].decode().partition("\0")
    if module not in sys.modules:
        __import__(module)
    found: Any = sys.modules[module]
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is None or (number and (id(found) != number or hash(found.__code__) != code)):
        raise UnknownFunction
    return found, True


def slow_pickler() -> Any:
    """The class that pickles by value what pickle cannot, or None."""
    try:
        import cloudpickle
    except ImportError:
        return None
    return cloudpickle.Pickler


def dumps_by_value(thing: Any, keep: Callable[[Any], Any] | None = None, *, local: bool = False) -> bytes:
    """Pickles with cloudpickle what pickle cannot (or, if `local`, what pickle would only name)."""
    failed: Exception | None = None
    if not local:
        try:
            return pickle.dumps(thing, 5, buffer_callback=keep)
        except UNPICKLABLE as error:
            failed = error
    try:
        import cloudpickle
    except ImportError:
        if failed is None:
            return pickle.dumps(thing, 5, buffer_callback=keep)
        raise failed from None
    try:
        done: bytes = cloudpickle.dumps(thing, 5, buffer_callback=keep)
    except Exception:
        if failed is not None:
            raise failed from None
        raise
    return done


def pack_error(error: BaseException) -> bytes:
    """An exception as bytes. One that cannot be sent, or would not arrive, is sent as a RemoteError."""
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    try:
        data = dumps_by_value(error)
        if not isinstance(pickle.loads(data), BaseException):
            raise TypeError("not an exception any more")
    except Exception:
        try:
            message = str(error)
        except Exception:
            message = "an exception whose text cannot be made"
        data = pickle.dumps(RemoteError(f"{type(error).__module__}.{type(error).__qualname__}", message), 5)
    return pickle.dumps((data, text), 5)


def unpack_error(packed: tuple[bytes, str]) -> tuple[BaseException, str]:
    """The exception and the worker's traceback as text, of what `pack_error` made."""
    data, text = packed
    try:
        error = pickle.loads(data)
    except Exception as failed:  # it could be made in the worker, but not here
        error = RemoteError(type(failed).__name__, str(failed))
    error.__cause__ = RemoteTraceback(text)
    return error, text
