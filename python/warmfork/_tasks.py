"""Threads: whose they are, and which of them a fork survives."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from typing import Any, NamedTuple

from warmfork import _audit, _known, _trace, _where
from warmfork._report import Fact, Finding, Make

PROBE_TASKS = 1
LOOKS_S = (0.002, 0.004, 0.008, 0.016, 0.032, 0.064)  # between looks at threads that are busy
SETTLE_MS = 1000  # a child that has not run its fork handlers by then hangs in them


class Settled(NamedTuple):
    """What a fork that does nothing has shown."""

    tasks: dict[int, Fact]  # the threads that are still there; by now those that were busy wait, and show where
    child: set[str]  # names of the threads that the child has, made by fork handlers
    hung: bool


def settle() -> Settled:
    """Forks a child that runs its fork handlers and ends: tells handlers that work from threads that stay.

    SIGCHLD of that child is kept from the program. Raises OSError when there can be no child.
    """
    waiting = signal.SIGCHLD in signal.sigpending()
    read, write = os.pipe()
    _audit.mute_children(True)
    try:
        pid = _audit.fork()
        if pid == 0:
            _child(write)
        os.close(write)
        write = -1
        answer = _listen(read)
        if answer is None:
            os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:  # SIGCHLD is ignored, or somebody waits for everybody's children
            pass
    finally:
        os.close(read)
        if write >= 0:
            os.close(write)
        _audit.mute_children(False)
        _make_up_for(waiting)
    names = (answer or b"").decode(errors="replace").split("\0")
    left = {f[1]: f for f in _audit.facts(PROBE_TASKS) if f[0] == "task"}
    return Settled(left, set(names) - {""}, answer is None)


def _make_up_for(waiting: bool) -> None:
    """Takes our child's signal back where it is blocked, and sends that of another child that has ended meanwhile."""
    if not waiting and signal.SIGCHLD in signal.sigpending():
        signal.sigtimedwait({signal.SIGCHLD}, 0)
    try:
        other = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return
    if other is not None:
        os.kill(os.getpid(), signal.SIGCHLD)


def _child(write: int) -> None:
    try:
        names = [t.name for t in threading.enumerate() if t is not threading.current_thread()]
        names += [f[2] for f in _audit.facts(PROBE_TASKS) if f[0] == "task"]
        os.write(write, "\0".join(names).encode()[:4096] + b"\0")
    finally:
        os._exit(0)


def _listen(read: int) -> bytes | None:
    import select

    poll = select.poll()
    poll.register(read, select.POLLIN)
    return os.read(read, 8192) if poll.poll(SETTLE_MS) else None


def findings(facts: list[Fact], make: Make, may_settle: bool) -> list[Finding | None]:
    """Findings of all threads but the calling one."""
    tasks = {f[1]: f for f in facts if f[0] == "task"}
    settled, why = None, ""
    if tasks and may_settle:
        try:
            settled = settle()
        except OSError as error:
            why = f"os.fork: {error}"
    found: list[Finding | None] = []
    if settled is not None and settled.hung:
        found.append(_hung(make))
    for thread in threading.enumerate():
        if thread is threading.current_thread():
            continue
        known = tasks.pop(thread.native_id or 0, None)
        found.append(_python_thread(thread, known is not None, settled, make))
    for ident, frame in sys._current_frames().items():
        tid = _audit.task_of(ident) if ident not in threading._active else 0  # type: ignore[attr-defined]
        if tasks.pop(tid, None) is not None:
            found.append(_raw_thread(ident, tid, frame, settled, make))
    native = [settled.tasks.get(tid, f) if settled is not None else f for tid, f in tasks.items()]
    found += _native_threads(_look_again(native), settled, why, make)
    return found


def _hung(make: Make) -> Finding | None:
    return make(
        "lock",
        f"a child hangs in its own fork handlers (killed after {SETTLE_MS} ms)",
        fix="find the handler given to os.register_at_fork or pthread_atfork that takes a lock which a thread holds",
        evidence={"after_ms": SETTLE_MS},
        key="hung",
    )


def _target_of(thread: threading.Thread) -> Any:
    """What it runs: its target, or its own class's run."""
    target = getattr(thread, "_target", None)
    if target is None and type(thread).run is not threading.Thread.run:
        target = type(thread).run
    return target


def _python_thread(thread: threading.Thread, real: bool, settled: Settled | None, make: Make) -> Finding | None:
    frame = sys._current_frames().get(thread.ident or 0)
    target = _target_of(thread)
    runs = f"{getattr(target, '__module__', '?')}.{getattr(target, '__qualname__', '?')}" if target else ""
    if isinstance(thread, threading._DummyThread):
        runs = ""
    library = (runs or type(thread).__module__ or "").split(".")[0]
    created = _trace.creator_of(thread)
    gone = settled is not None and real and thread.native_id not in settled.tasks
    remade = settled is not None and thread.name in settled.child
    case = "handled" if gone or remade else "" if real else "green"
    kind = "daemon thread" if thread.daemon else "thread"
    text = f"{kind} {thread.name!r}" + (f" runs {runs}" if runs else "")
    end = {
        "handled": ": its fork handlers end it, or make it anew in the child",
        "green": ": it is no thread of the kernel, and is copied into the child",
        "": ", and would not exist in a child",
    }
    return make(
        "thread",
        text + end[case],
        case=case or library,
        where=created[0] if created else _where.place_of(target) or _where.frame_place(frame),
        fix=_known.THREAD_FIX.get(library, ""),
        evidence={
            "name": thread.name,
            "ident": thread.ident,
            "task": thread.native_id,
            "daemon": thread.daemon,
            "library": library,
            "runs": runs,
            "now_at": _where.frame_place(frame),
            "created": created,
        },
        key=(thread.native_id, thread.ident),
    )


def _raw_thread(ident: int, tid: int, frame: Any, settled: Settled | None, make: Make) -> Finding | None:
    outermost = frame
    while outermost.f_back is not None:
        outermost = outermost.f_back
    code, created = outermost.f_code, _trace.creator_of(ident)
    library = str(outermost.f_globals.get("__name__", "")).split(".")[0]
    case = "handled" if settled is not None and tid not in settled.tasks else library
    return make(
        "thread",
        f"a thread made by _thread runs {code.co_name}, and would not exist in a child",
        case=case,
        where=created[0] if created else f"{code.co_filename}:{code.co_firstlineno}",
        fix=_known.THREAD_FIX.get(library, ""),
        evidence={
            "ident": ident,
            "task": tid,
            "library": library,
            "now_at": _where.frame_place(frame),
            "created": created,
        },
        key=(tid, ident),
    )


def _look_again(tasks: list[Fact]) -> list[Fact]:
    """A thread that is busy shows no library: looks a few times more, until it waits for something."""
    for pause in LOOKS_S:
        if all(_library_of(f) or f[3] for f in tasks):
            break
        time.sleep(pause)
        now = {f[1]: f for f in _audit.facts(PROBE_TASKS) if f[0] == "task"}
        tasks = [f if f[3] else now.get(f[1], f) for f in tasks]
    return tasks


def _library_of(fact: Fact) -> _known.Library | None:
    _, _, comm, path, _, _ = fact
    for library in _known.LIBRARIES:
        if (library.path and path and library.path.search(path)) or (library.comm and library.comm.search(comm)):
            return library
    return None


def _native_threads(tasks: list[Fact], settled: Settled | None, why: str, make: Make) -> list[Finding | None]:
    """One finding for each library, since thread pools have many."""
    groups: dict[tuple[str, str], list[Fact]] = {}
    for fact in tasks:
        library = _library_of(fact)
        stem = library.name if library else re.sub(r"[-_:/.#]?\d+$", "", fact[2])
        groups.setdefault((stem, fact[3] if library is None else ""), []).append(fact)
    return [_native_group(stem, group, settled, why, make) for (stem, _), group in groups.items()]


def _native_group(stem: str, group: list[Fact], settled: Settled | None, why: str, make: Make) -> Finding | None:
    library, names = _library_of(group[0]), sorted({f[2] for f in group})
    paths = sorted({f[3] for f in group if f[3]})
    gone = settled is not None and not any(f[1] in settled.tasks for f in group)
    remade = settled is not None and all(name in settled.child for name in names)
    count = "a thread" if len(group) == 1 else f"{len(group)} threads"
    owner = library.name if library else os.path.basename(paths[0]) if paths else "an unknown library"
    text = f"{count} of {owner} ({', '.join(names[:4])}{', ...' if len(names) > 4 else ''})"
    handled = gone or remade
    return make(
        "native-thread",
        text + (": its own fork handlers deal with it" if handled else ", which would not exist in a child"),
        case="handled" if handled else library.name if library else "",
        where=", ".join(paths),
        fix=library.fix if library else "",
        evidence={
            "library": library.name if library else None,
            "tasks": [{"task": f[1], "name": f[2], "waits_in": f[3]} for f in group],
            "not_settled": why or None,
        },
        key=(stem, tuple(paths), handled),
    )
