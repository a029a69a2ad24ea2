"""Hazards that single modules know of: the interpreter's own, and libraries that keep state of their own."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Callable, Iterable
from typing import Any

from warmfork import _audit
from warmfork._report import Finding, Make


def findings(make: Make) -> Iterable[Finding | None]:
    yield _wakeup(make)
    yield _atexit(make)
    yield _environment(make)
    for name, probe in LIBRARIES.items():
        module = sys.modules.get(name)
        if module is not None:
            yield _asked(name, probe, module, make)


def _asked(name: str, probe: Callable[[Any, Make], Finding | None], module: Any, make: Make) -> Finding | None:
    try:
        return probe(module, make)
    except Exception as error:  # a module that is half imported, or that has changed since this was written
        text = f"cannot see the state of {name}: {type(error).__name__}: {error}"
        return make("unseen", text, evidence={"probe": name, "error": repr(error)}, key=name)


def _wakeup(make: Make) -> Finding | None:
    """It can only be read by replacing it. Whether a full buffer warns cannot be read at all: not, from then on."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        fd = signal.set_wakeup_fd(-1)
        if fd >= 0:
            signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
    except ValueError as error:  # not the main thread
        return make("unseen", f"cannot see the wake-up descriptor of signals: {error}", key="wakeup")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    if fd < 0:
        return None
    text = f"signals write to descriptor {fd}, and those of a child would wake up its parent"
    return make("signal-wakeup-fd", text, evidence={"descriptor": fd}, key=fd)


def _atexit(make: Make) -> Finding | None:
    count = atexit._ncallbacks()
    if not count:
        return None
    text = f"{count} callback{'s' * (count > 1)} of atexit would run in each child that ends in the ordinary way"
    return make("atexit", text, evidence={"callbacks": count}, key=("atexit", count))


def _environment(make: Make) -> Finding | None:
    """What C code has changed, or os.putenv: os.environ does not know of it, and programs that are run do."""
    known = {os.fsencode(k): os.fsencode(v) for k, v in os.environ.items()}
    actual = dict(entry.partition(b"=")[::2] for entry in _audit.c_environ() if b"=" in entry)
    differ = sorted(os.fsdecode(k) for k in {*known, *actual} if known.get(k) != actual.get(k))
    if not differ:
        return None
    text = f"os.environ differs from the environment that C has: {', '.join(differ[:6])}"
    return make("env-snapshot", text, evidence={"variables": differ}, key=("c", tuple(differ)))


def _torch(torch: Any, make: Make) -> Finding | None:
    if not torch.cuda.is_initialized():
        return None
    text = "torch has initialised CUDA: no child can use it"
    return make("gpu", text, evidence={"library": "torch"}, key="torch")


def _torch_random(torch: Any, make: Make) -> Finding | None:
    torch.default_generator  # an attribute that a half imported torch has not  # noqa: B018
    text = "torch's default generator has a state that all children would start from"
    return make("random-state", text, where="torch.default_generator", evidence={"library": "torch"}, key="torch")


def _jax(bridge: Any, make: Make) -> Finding | None:
    backends = [name for name in getattr(bridge, "_backends", {}) if name not in ("cpu", "interpreter")]
    if not backends:
        return None
    text = f"jax has initialised {', '.join(backends)}: no child can use it"
    return make("gpu", text, evidence={"library": "jax", "backends": backends}, key="jax")


def _gevent(local: Any, make: Make) -> Finding | None:
    hub = local.get_hub_if_exists()
    if hub is None:
        return None
    text = "gevent's hub is there: without gevent.os.fork() a child shares its event loop"
    fix = "fork with gevent.os.fork() (gevent.monkey.patch_os), or make no greenlet before forking"
    return make("event-loop", text, case="idle", where="gevent", fix=fix, evidence={"library": "gevent"}, key="gevent")


LIBRARIES = {
    "torch.cuda": lambda module, make: _torch(sys.modules["torch"], make),
    "torch.random": lambda module, make: _torch_random(sys.modules["torch"], make),
    "jax._src.xla_bridge": _jax,
    "gevent._hub_local": _gevent,
}
