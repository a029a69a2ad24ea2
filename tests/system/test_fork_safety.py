"""What must not be forked is not served: programs that start from it would share it, or lose it."""

import json
import os

import pytest
from harness import STANDIN, write
from test_preload import with_library

SHARED = {
    "mapping": ("import mmap\npage = mmap.mmap(-1, 4096)\n",
                "import shared_mod as m; m.page[0] += 1; print(m.page[0])"),
    "mapped_file": ("import mmap, os, tempfile\nwith tempfile.TemporaryFile() as f:\n"
                    "    f.truncate(4096); page = mmap.mmap(f.fileno(), 4096)\n",
                    "import shared_mod as m; m.page[0] += 1; print(m.page[0])"),
    "semaphore": ("import multiprocessing\nlock = multiprocessing.Lock()\n",
                  "import shared_mod as m; print(m.lock.acquire(False))"),
    "posix_timer": ("import ctypes\nlibc = ctypes.CDLL(None)\nevent = (ctypes.c_int * 16)(0, 0, 0, 1)\n"
                    "timer = ctypes.c_void_p()\nlibc.timer_create(1, event, ctypes.byref(timer))\n",
                    "import ctypes, shared_mod as m; now = (ctypes.c_long * 4)();"
                    "print(m.libc.timer_gettime(m.timer, now))"),
}


def settled(warm):
    """No zygote is in the making any more."""
    return STANDIN or not any(z["state"] in ("starting", "warming") for z in warm.status()["zygotes"])


@pytest.mark.parametrize("name", SHARED)
def test_programs_do_not_meet_in_what_was_preloaded(warm, name):
    module, program = SHARED[name]
    with_library(warm, shared_mod=module)
    env = {"WARMFORK_PRELOAD": "shared_mod"}
    warm.same(["-c", program], env=env, warm=None)
    warm.until(lambda: settled(warm))
    for _ in range(3):
        warm.same(["-c", program], env=env)
    assert STANDIN or "preload shared_mod: " in json.dumps(warm.status())


START = {
    "thread": "import threading, time\nticks = []\ndef run():\n    while True: ticks.append(1); time.sleep(.001)\n"
              "threading.Thread(target=run, daemon=True).start()\n",
    "child": "import os\nif os.fork() == 0:\n    os.execv('/bin/sleep', ['sleep', '2'])\n",
    "mapping": "import mmap\npage = mmap.mmap(-1, 4096)\n",
    "descriptor": "import os\nfd = os.open('/dev/null', os.O_RDONLY)\n",
    "timer": "import signal\nsignal.setitimer(signal.ITIMER_PROF, 100)\n",
}
LOOK = """
import os, signal, sys, threading, usercustomize as u
print(threading.active_count(), signal.getitimer(signal.ITIMER_PROF)[0] > 0)
if hasattr(u, 'page'): u.page[0] += 1; print(u.page[0])
if hasattr(u, 'fd'): print(os.fstat(u.fd).st_rdev == os.stat('/dev/null').st_rdev)
if hasattr(u, 'ticks'):
    n = len(u.ticks)
    while len(u.ticks) == n: pass
"""


@pytest.mark.parametrize("name", START)
def test_an_interpreter_that_starts_unsafe_is_not_served(warm, name):
    """A start-up hook may do what no fork survives: programs then run cold, and status says why."""
    site = warm.run_python(["-c", "import site; print(site.getusersitepackages())"]).out.decode().strip()
    os.makedirs(site)
    write(f"{site}/usercustomize.py", START[name])
    warm.same(["-c", LOOK], warm=None)
    warm.until(lambda: STANDIN or "unsafe to fork" in json.dumps(warm.status()))
    warm.same(["-c", LOOK], warm=False)
    assert STANDIN or "unsafe to fork" in warm.ctl("status").out.decode()
