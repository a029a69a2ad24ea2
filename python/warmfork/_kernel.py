"""What the kernel's facts mean: descriptors, signals, timers, mappings, children."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Mapping

from warmfork._report import Fact, Finding, Make

DATABASE_FILE = re.compile(r"(-wal|-shm|-journal|[/.](lock|data)\.mdb|\.duckdb|\.sqlite3?|\.db|\.h5|\.hdf5)$")
MEANT_TO_BE_SHARED = ("/dev/zero (deleted)", "/memfd:", "/dev/shm/", "/SYSV")


def findings(facts: list[Fact], owners: Mapping[int, str], make: Make) -> list[Finding | None]:
    """Findings of all facts but those about threads; `owners` says what a descriptor hangs on."""
    found: list[Finding | None] = []
    for fact in facts:
        handle = HANDLERS.get(fact[0])
        if handle is not None:
            found.append(handle(fact, owners.get(fact[1], ""), make))
    ring = any(f[0] == "io-uring" for f in facts)  # its descriptor says it already
    shared = [f for f in facts if f[0] == "shared" and not (ring and f[2].startswith("anon_inode:[io_uring]"))]
    return [*found, *_shared_memory(shared, make)]


def _descriptor(fact: Fact, **more: object) -> dict[str, object]:
    return {"descriptor": fact[1], "name": fact[2], **more}


def _unseen(fact: Fact, _where: str, make: Make) -> Finding | None:
    unseen = {
        "tasks": "thread, native-thread",
        "descriptors": "socket, epoll, event-loop, io-uring, inotify, gpu, database, privileged-fd, file-lock",
        "mappings": "shared-memory",
        "file locks": "file-lock",
    }
    codes = unseen.get(fact[2], fact[2])
    text = f"cannot see {fact[2]}: {fact[3]}"
    return make("unseen", text, evidence={"probe": fact[2], "codes": codes, "error": fact[3]}, key=fact[2])


def _epoll(fact: Fact, where: str, make: Make) -> Finding | None:
    text = f"an epoll set (descriptor {fact[1]}) would be one for parent and child"
    return make("epoll", text, where=where, evidence=_descriptor(fact), key=fact[1])


def _inotify(fact: Fact, where: str, make: Make) -> Finding | None:
    text = f"{fact[3]} (descriptor {fact[1]}): parent and child would take each other's events"
    return make("inotify", text, where=where, evidence=_descriptor(fact), key=fact[1])


def _io_uring(fact: Fact, where: str, make: Make) -> Finding | None:
    text = f"an io_uring (descriptor {fact[1]}) would have two users that do not know of each other"
    return make("io-uring", text, where=where, evidence=_descriptor(fact), key=fact[1])


def _timerfd(fact: Fact, where: str, make: Make) -> Finding | None:
    text = f"a timerfd (descriptor {fact[1]}) would be one for parent and child: each expiry is seen by one of them"
    return make("timer", text, where=where, evidence=_descriptor(fact), key=fact[1])


def _gpu(fact: Fact, where: str, make: Make) -> Finding | None:
    text = f"a GPU is open ({fact[2]}, {fact[3]}): its context does not survive a fork"
    case = "drm" if fact[3] == "DRM" else ""
    return make("gpu", text, case=case, where=where, evidence=_descriptor(fact, kind=fact[3]), key=fact[1])


def _privileged(fact: Fact, where: str, make: Make) -> Finding | None:
    text = f"descriptor {fact[1]} ({fact[2]}) gives every child access to {fact[3]}"
    return make("privileged-fd", text, where=where, evidence=_descriptor(fact, right=fact[3]), key=fact[1])


def _file(fact: Fact, where: str, make: Make) -> Finding | None:
    if not DATABASE_FILE.search(fact[2]) and not _is_sqlite(fact[1]):
        return None
    text = f"a database file is open: {fact[2]} (descriptor {fact[1]})"
    return make("database", text, where=where, evidence=_descriptor(fact, file=fact[2]), key=("file", fact[1]))


def _is_sqlite(fd: int) -> bool:
    try:
        return os.pread(fd, 16, 0) == b"SQLite format 3\0"
    except OSError:  # a directory, or not open for reading
        return False


def _listening(fact: Fact, where: str, make: Make) -> Finding | None:
    text = f"a {fact[2]} socket listens on {fact[3] or 'no address'} (descriptor {fact[1]})"
    evidence = _descriptor(fact, address=fact[3])
    return make("socket", text, case="listening", where=where, evidence=evidence, key=fact[1])


def _connected(fact: Fact, where: str, make: Make) -> Finding | None:
    _, fd, kind, peer, _, pid = fact
    stream = kind in ("tcp", "unix", "vsock", "other")
    if fd <= 2:
        case, end = "inherited", "which this process was started with"
    elif not stream:
        case, end = "datagram", "whose messages do not mix"
    elif pid == os.getpid():
        case, end = "own", "both ends of which this process made"
    elif kind == "unix" and not peer:
        case, end = "inherited", f"whose other end process {pid} made"
    else:
        case, end = "", "on which parent and child would mix their bytes"
    text = f"a {kind} socket is connected to {peer or 'a socket without address'} (descriptor {fd}), {end}"
    evidence = _descriptor(fact, peer=peer, peer_pid=pid or None)
    return make("socket", text, case=case, where=where, evidence=evidence, key=fd)


def _file_lock(fact: Fact, where: str, make: Make) -> Finding | None:
    text = f"a lock ({fact[3]}) is held on {fact[2]} (descriptor {fact[1]})"
    return make("file-lock", text, where=where, evidence=_descriptor(fact, kind=fact[3]), key=(fact[1], fact[3]))


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _pending(fact: Fact, _where: str, make: Make) -> Finding | None:
    name = signal_name(fact[1])
    text = f"{name} waits to be delivered, and would be lost in a child"
    return make("pending-signal", text, evidence={"signal": fact[1], "name": name}, key=fact[1])


def _blocked(fact: Fact, _where: str, make: Make) -> Finding | None:
    name = signal_name(fact[1])
    text = f"{name} is blocked, and would be in every child"
    return make("signal-mask", text, evidence={"signal": fact[1], "name": name}, key=fact[1])


def _timer(fact: Fact, _where: str, make: Make) -> Finding | None:
    text = f"{fact[2]} is set, and would not be in a child"
    return make("timer", text, evidence={"name": fact[2], "id": fact[1]}, key=(fact[0], fact[1]))


def _trackers() -> set[int]:
    """Helpers of multiprocessing, which are meant to have one parent."""
    tracker = getattr(sys.modules.get("multiprocessing.resource_tracker"), "_resource_tracker", None)
    server = getattr(sys.modules.get("multiprocessing.forkserver"), "_forkserver", None)
    return {getattr(tracker, "_pid", None) or 0, getattr(server, "_forkserver_pid", None) or 0} - {0}


def _child(fact: Fact, _where: str, make: Make) -> Finding | None:
    helper = fact[1] in _trackers()
    who = f"process {fact[1]} ({fact[2]})" if fact[1] else "a process"
    text = f"{who} is a child: " + ("a helper of multiprocessing" if helper else "no child could wait for it")
    evidence = {"pid": fact[1] or None, "name": fact[2]}
    return make("child-process", text, case="tracker" if helper else "", evidence=evidence, key=fact[1])


def _shared_memory(facts: list[Fact], make: Make) -> list[Finding | None]:
    """One finding for all that is there to be shared, one for each mapped file."""
    found, meant = [], []
    for fact in facts:
        _, _, name, _, start, size = fact
        evidence = {"name": name, "from": hex(start), "bytes": size}
        if name.startswith("/dev/nvidia"):
            continue  # a finding already, as descriptor
        if name.startswith("anon_inode:[io_uring]"):
            text = "an io_uring's memory is mapped, and would have two users"
            found.append(make("io-uring", text, evidence=evidence, key=start))
        elif not name or name.startswith(MEANT_TO_BE_SHARED):
            meant.append(fact)
        else:
            text = f"{name} is mapped writable and shared ({size} bytes): parent and child write to the same file"
            found.append(make("shared-memory", text, evidence=evidence, key=(name, start)))
    if meant:
        total = sum(f[5] for f in meant)
        text = f"{total} bytes in {len(meant)} writable mappings are shared with children, as such memory is meant to"
        evidence = {"bytes": total, "mappings": [{"name": f[2], "from": hex(f[4]), "bytes": f[5]} for f in meant]}
        found.append(make("shared-memory", text, case="meant", evidence=evidence, key=("meant", len(meant))))
    return found


HANDLERS: dict[str, Callable[[Fact, str, Make], Finding | None]] = {
    "unseen": _unseen,
    "epoll": _epoll,
    "inotify": _inotify,
    "io-uring": _io_uring,
    "timerfd": _timerfd,
    "gpu": _gpu,
    "privileged": _privileged,
    "file": _file,
    "listening": _listening,
    "connected": _connected,
    "file-lock": _file_lock,
    "pending": _pending,
    "blocked": _blocked,
    "itimer": _timer,
    "posix-timer": _timer,
    "child": _child,
}
