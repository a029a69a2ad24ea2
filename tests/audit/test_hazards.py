"""Each hazard that the auditor knows is made, and must be found with its severity; and a clean process has none."""

import os
import subprocess
import sys

import pytest
from audit_harness import find_package, of, run, unsafe

pytestmark = pytest.mark.timeout(120)

SOCKET = """
import socket
server = socket.socket(); server.bind(("127.0.0.1", 0)); server.listen()
client = socket.create_connection(server.getsockname())
"""
WAITS = """
import threading, time
def waits(what, *, since=time.monotonic()):
    while not what():
        assert time.monotonic() < since + 30
        time.sleep(0.001)  # only until another thread has got somewhere
"""

# name: (code, severity, program, part of `where` or of the message)
HAZARDS = {
    "thread": ("thread", "unsafe", "import threading\nthreading.Thread(target=threading.Event().wait, name='pump', "
               "daemon=True).start()\n", "'pump' runs threading.Event.wait"),
    "raw thread": ("thread", "unsafe", WAITS + "import _thread\nran = []\ndef run(): ran.append(1); threading.Event().wait()\n"
                   "_thread.start_new_thread(run, ())\nwaits(lambda: ran)\n", "made by _thread runs run"),
    "C thread": ("native-thread", "unsafe", "import ctypes\nlibc = ctypes.CDLL(None)\nlibc.pthread_create("
                 "ctypes.byref(ctypes.c_ulong()), None, libc.pause, None)\n", "a thread of"),
    "Lock": ("lock", "unsafe", "import threading\nlock = threading.Lock(); lock.acquire()\n"
             "threading.Thread(target=threading.Event().wait, daemon=True).start()\n", "__main__.lock"),
    "Lock in an object": ("lock", "unsafe", "import threading\nclass Cache:\n    def __init__(self): self.guard = "
                          "threading.Lock()\ncache = Cache(); cache.guard.acquire()\n"
                          "threading.Thread(target=threading.Event().wait, daemon=True).start()\n", "Cache.guard"),
    "Lock in a list": ("lock", "unsafe", "import threading\nlocks = [threading.Lock()]; locks[0].acquire()\n"
                       "threading.Thread(target=threading.Event().wait, daemon=True).start()\n", "in __main__.locks"),
    "Lock, alone": ("lock", "warning", "import threading\nlock = threading.Lock(); lock.acquire()\n", "__main__.lock"),
    "Lock, frozen": ("lock", "warning", "import gc, threading\nlock = threading.Lock(); lock.acquire()\n"
                     "gc.collect(); gc.freeze()\n", "__main__.lock"),
    "RLock of a thread": ("lock", "unsafe", WAITS + "lock = threading.RLock(); held = []\ndef run():\n    lock.acquire(); "
                          "held.append(1); threading.Event().wait()\nthreading.Thread(target=run, name='owner', daemon=True)"
                          ".start()\nwaits(lambda: held)\n", "an RLock is held by 'owner'"),
    "Condition": ("lock", "warning", "import threading\ncondition = threading.Condition(); condition.acquire()\n",
                  "__main__.condition._lock"),
    "Queue": ("lock", "warning", "import queue\njobs = queue.Queue(); jobs.mutex.acquire()\n", "Queue.mutex"),
    "logging handler": ("lock", "info", WAITS + "import logging\nhandler = logging.StreamHandler(); held = []\ndef run():\n"
                        "    handler.acquire(); held.append(1); threading.Event().wait()\n"
                        "threading.Thread(target=run, daemon=True).start()\nwaits(lambda: held)\n", "made anew"),
    "import lock": ("lock", "unsafe", WAITS + "import os, tempfile\nfolder = tempfile.mkdtemp(); sys.path.append(folder)\n"
                    "open(folder + '/slow.py', 'w').write('import threading; here = 1; threading.Event().wait()')\n"
                    "def run():\n    import slow\nthreading.Thread(target=run, daemon=True).start()\n"
                    "waits(lambda: hasattr(sys.modules.get('slow'), 'here'))\nos.remove(folder + '/slow.py'); os.rmdir(folder)\n",
                    "import lock of 'slow'"),
    "running loop": ("event-loop", "unsafe", "import asyncio\nasync def main(): tell()\nasyncio.run(main())\n", "runs in this"),
    "open loop": ("event-loop", "warning", "import asyncio\nloop = asyncio.new_event_loop()\n", "__main__.loop"),
    "epoll": ("epoll", "warning", "import select\nkeep.append(select.epoll())\n", "one for parent and child"),
    "thread pool": ("executor", "unsafe", "from concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor(1)\n"
                    "pool.submit(int).result()\n", "__main__.pool"),
    "process pool": ("executor", "warning", "import multiprocessing\nfrom concurrent.futures import ProcessPoolExecutor\n"
                     "pool = ProcessPoolExecutor(1, multiprocessing.get_context('fork'))\npool.submit(int).result()\n"
                     "report = warmfork.audit(); pool.shutdown(); tell(report)\n", "__main__.pool"),
    "multiprocessing pool": ("executor", "unsafe", "import multiprocessing\npool = multiprocessing.get_context('fork').Pool(1)\n"
                             "report = warmfork.audit(); pool.terminate(); tell(report)\n", "1 worker"),
    "pending signal": ("pending-signal", "unsafe", "import os, signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n"
                       "os.kill(os.getpid(), signal.SIGUSR1)\n", "SIGUSR1"),
    "blocked signal": ("signal-mask", "warning", "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n",
                       "SIGTERM"),
    "wake-up descriptor": ("signal-wakeup-fd", "warning", "import os, signal\nread, write = os.pipe(); os.set_blocking(write, "
                           "False)\nsignal.set_wakeup_fd(write)\n", "signals write to"),
    "itimer": ("timer", "warning", "import signal\nsignal.setitimer(signal.ITIMER_PROF, 1000)\n", "ITIMER_PROF"),
    "POSIX timer": ("timer", "warning", "import ctypes\nevent = (ctypes.c_int * 16)(0, 0, 0, 1)\n"
                    "assert ctypes.CDLL(None).timer_create(1, event, ctypes.byref(ctypes.c_void_p())) == 0\n", "POSIX timer"),
    "timerfd": ("timer", "warning", "import ctypes\nassert ctypes.CDLL(None).timerfd_create(1, 0) >= 0\n", "timerfd"),
    "connected socket": ("socket", "unsafe", SOCKET, "__main__.client"),
    "listening socket": ("socket", "info", SOCKET, "listens on 127.0.0.1:"),
    "datagram socket": ("socket", "info", "import socket\nudp = socket.socket(type=socket.SOCK_DGRAM); udp.bind(('127.0.0.1', 0))\n"
                        "udp.connect(udp.getsockname())\n", "udp"),
    "socket pair": ("socket", "info", "import socket\npair = socket.socketpair()\n", "in __main__.pair"),
    "sqlite": ("database", "unsafe", "import os, sqlite3, tempfile\nwith tempfile.TemporaryDirectory() as folder:\n"
               "    db = sqlite3.connect(folder + '/data'); db.execute('create table t (a)'); db.commit()\n"
               "    report = warmfork.audit()\ntell(report)\n", "__main__.db"),
    "sqlite in memory": ("database", "info", "import sqlite3\ndb = sqlite3.connect(':memory:')\n", "__main__.db"),
    "database file": ("database", "unsafe", "import os, tempfile\nwith tempfile.TemporaryDirectory() as folder:\n"
                      "    file = open(folder + '/lock.mdb', 'w'); report = warmfork.audit()\ntell(report)\n", "lock.mdb"),
    "flock": ("file-lock", "warning", "import fcntl, tempfile\nfile = tempfile.NamedTemporaryFile(); fcntl.flock(file, "
              "fcntl.LOCK_EX)\nreport = warmfork.audit(); file.close(); tell(report)\n", "(flock)"),
    "POSIX lock": ("file-lock", "warning", "import fcntl, tempfile\nfile = tempfile.NamedTemporaryFile(); fcntl.lockf(file, "
                   "fcntl.LOCK_EX)\nreport = warmfork.audit(); file.close(); tell(report)\n", "(posix)"),
    "unflushed text": ("unflushed-buffer", "warning", "print('x' * 10, end='')\n", "<stdout> holds 10 bytes"),
    "unflushed file": ("unflushed-buffer", "warning", "import os, tempfile\nfile = tempfile.TemporaryFile(); file.write(b'abc')\n"
                       "report = warmfork.audit(); file.close(); tell(report)\n", "holds 3 bytes"),
    "unflushed C": ("unflushed-buffer", "warning", "import ctypes\nctypes.CDLL(None).printf(b'abc')\n", "C's stdout holds 3"),
    "mapping": ("shared-memory", "info", "import mmap\npage = mmap.mmap(-1, 8192)\n", "8192 bytes"),
    "mapped file": ("shared-memory", "warning", "import mmap, tempfile\nfile = tempfile.NamedTemporaryFile(); file.truncate(4096)\n"
                    "page = mmap.mmap(file.fileno(), 4096); report = warmfork.audit(); file.close(); tell(report)\n", "same file"),
    "child": ("child-process", "warning", "import subprocess\nchild = subprocess.Popen(['sleep', '60'])\n"
              "report = warmfork.audit(); child.kill(); child.wait(); tell(report)\n", "a child"),
    "zombie": ("child-process", "warning", "import os\npid = os.posix_spawn('/bin/true', ['true'], {})\n"
               "os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)\n", "a child"),
    "torch on a GPU": ("gpu", "unsafe", "import types\ntorch = sys.modules['torch'] = types.ModuleType('torch')\n"
                       "torch.cuda = sys.modules['torch.cuda'] = types.SimpleNamespace(is_initialized=lambda: True)\n",
                       "torch has initialised CUDA"),
    "io_uring": ("io-uring", "unsafe", "import ctypes\nassert ctypes.CDLL(None).syscall(425, 2, (ctypes.c_uint32 * 30)()) >= 0\n",
                 "two users"),
    "inotify": ("inotify", "warning", "import ctypes\nassert ctypes.CDLL(None).inotify_init() >= 0\n", "each other's events"),
    "generator": ("random-state", "warning", "import random\nclass Game:\n    pass\ngame = Game(); game.dice = random.Random(6)\n",
                  "Game.dice"),
    "environment": ("env-snapshot", "info", "import os\nclass Settings:\n    pass\nsettings = Settings(); settings.values = "
                    "dict(os.environ)\n", "Settings.values"),
    "putenv": ("env-snapshot", "info", "import os\nos.putenv('ONLY_IN_C', '1')\n", "ONLY_IN_C"),
    "gc": ("gc", "info", "", "not frozen"),
    "much garbage to collect": ("gc", "warning", "import gc\nkeep += [[[]] for _ in range(1_000_000)]\n", "not frozen"),
    "atexit": ("atexit", "info", "import atexit\natexit.register(print)\n", "of atexit"),
    "raw socket": ("privileged-fd", "warning", "import socket\nraw = socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)\n",
                   "raw network packets"),
}


@pytest.mark.parametrize("name", HAZARDS)
def test_found(python, name):
    code, severity, program, told = HAZARDS[name]
    if name == "raw socket" and os.geteuid() != 0:
        pytest.skip("needs root")
    report = run(python, program + "\ntell()\n", env={"ONE": "1", "TWO": "2", "THREE": "3", "FOUR": "4"})
    matching = [f for f in of(report, code) if f["severity"] == severity and told in f["message"] + " " + f["where"]]
    assert matching, "\n".join(map(str, report["findings"]))
    assert all(f["fix"] and f["evidence"] for f in matching)
    assert report["safe"] == (not unsafe(report))


def test_every_code_is_made_here():
    sys.path.insert(0, os.path.dirname(find_package()))
    try:
        from warmfork._report import CODES
    finally:
        sys.path.pop(0)
    assert set(CODES) - {"unseen"} == {hazard[0] for hazard in HAZARDS.values()}


def as_root_in_own_mounts():
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        pytest.skip("needs root and mount namespaces")


def test_gpu_device(python):
    """The device is /dev/null's, at the name of a GPU's."""
    as_root_in_own_mounts()
    script = "mount -t tmpfs none /dev && mknod /dev/null c 1 3 && mknod /dev/nvidia0 c 1 3 && exec \"$@\""
    report = run(python, "keep.append(open('/dev/nvidia0')); tell()\n", wrap=["unshare", "-m", "sh", "-c", script, "sh"])
    assert [f["severity"] for f in of(report, "gpu")] == ["unsafe"]


def test_without_proc_nothing_is_called_safe(python):
    as_root_in_own_mounts()
    program = "import os, subprocess\nassert not os.path.exists('/proc/self')\ntell()\n"
    report = run(python, program, wrap=["unshare", "-m", "sh", "-c", "umount -l /proc && exec \"$@\"", "sh"])
    assert not report["safe"]
    assert {f["evidence"]["probe"] for f in of(report, "unseen")} >= {"tasks", "descriptors", "mappings"}
    assert all("No such file" in f["message"] for f in of(report, "unseen"))


CLEAN = {
    "nothing": "",
    "standard library": "import asyncio, concurrent.futures, ctypes, decimal, email.message, http.server, json, logging\n"
                        "import multiprocessing, queue, random, sqlite3, ssl, subprocess, tempfile, threading, unittest, uuid\n"
                        "import urllib.request, xml.dom.minidom, zipfile, multiprocessing.pool, concurrent.futures.thread\n",
    "thread that has ended": "import threading\nt = threading.Thread(target=int); t.start(); t.join()\n",
    "pool that was shut down": "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor() as pool: "
                               "pool.submit(int).result()\n",
    "loop that was closed": "import asyncio\nasync def main(): pass\nasyncio.run(main())\n",
    "closed files": "import sqlite3, tempfile\nwith tempfile.TemporaryFile() as f: f.write(b'1')\n"
                    "db = sqlite3.connect(':memory:'); db.close()\n",
    "released locks": "import threading, logging\nlock = threading.RLock()\nwith lock: pass\nlogging.warning('x')\n",
    "child that was waited for": "import subprocess\nsubprocess.run(['true'])\n",
    "forked before": "import os\npid = os.fork()\nif pid == 0: os._exit(0)\nos.waitpid(pid, 0)\n",
}


@pytest.mark.parametrize("name", CLEAN)
def test_clean(python, name):
    report = run(python, CLEAN[name] + "\ntell()\n")
    assert report["safe"] and not unsafe(report)
    loud = [f for f in report["findings"] if f["severity"] == "warning" and f["code"] not in ("random-state", "gc")]
    assert not loud


def test_frozen_heap_is_no_finding(python):
    report = run(python, "import gc\ngc.collect(); gc.freeze(); tell()\n")
    assert not of(report, "gc") or of(report, "gc")[0]["evidence"]["objects"] < 1000


def test_the_collector_writes_about_as_much_as_said(python):
    """What a child copies when it collects, as the kernel counts it."""
    program = """
import gc, os
keep = [[[]] for _ in range(300_000)]
def private():
    with open("/proc/self/smaps_rollup") as file:
        return sum(int(l.split()[1]) for l in file if l.startswith("Private_Dirty"))
gc.collect()
report = warmfork.audit()
read, write = os.pipe()
if os.fork() == 0:
    before = private(); gc.collect(); os.write(write, str(private() - before).encode()); os._exit(0)
copied = int(os.read(read, 100)) * 1024
os.wait()
(finding,) = [f for f in report.findings if f.code == "gc"]
finding.evidence["copied"] = copied
tell(report)
"""
    evidence = of(run(python, program), "gc")[0]["evidence"]
    assert 0.7 * evidence["bytes"] < evidence["copied"] < 1.5 * evidence["bytes"], evidence
