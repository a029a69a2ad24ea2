"""What happens between the last line of a program and its end: threads, atexit, finalisers, files, children, exec."""

import os
import time

import pytest
import procs
from harness import STANDIN, write

PROGRAMS = {
    "atexit_order": "import atexit\nfor i in range(4): atexit.register(print, 'exit', i)\nprint('main')",
    "atexit_exception": "import atexit\natexit.register(print, 'after')\natexit.register(lambda: 1/0)\nprint('main')",
    "atexit_registers": "import atexit\natexit.register(lambda: atexit.register(print, 'late'))",
    "atexit_unregister": "import atexit\nf = lambda: print('no')\natexit.register(f); atexit.unregister(f)\n"
                         "print(atexit._ncallbacks())",
    "atexit_after_exception": "import atexit\natexit.register(print, 'exit')\n1/0",
    "del_of_global": "class D:\n    def __del__(self): print('del', self.__class__.__name__)\nd = D()",
    "del_in_cycle": "class D:\n    def __del__(self): print('del')\na, b = D(), D(); a.o, b.o = b, a; del a, b",
    "del_of_cycle_kept": "class D:\n    def __del__(self): print('del')\na, b = D(), D(); a.o, b.o = b, a",
    "del_order": "class D:\n    def __init__(s, n): s.n = n\n    def __del__(s): print(s.n)\na = D('a'); _b = D('_b'); c = D('c')",
    "weakref_callback": "import weakref\nclass D: pass\nd = D(); w = weakref.finalize(d, print, 'finalize'); print(w.alive)",
    "weakref_at_exit_off": "import weakref\nclass D: pass\nd = D(); weakref.finalize(d, print, 'never').atexit = False",
    "generator_finally": "def g():\n    try:\n        yield 1\n    finally:\n        print('closed')\nx = g(); next(x)",
    "contextmanager_open": "import contextlib\nstack = contextlib.ExitStack(); stack.callback(print, 'never by itself')",
    "thread_joined": "import threading, time\ndef f():\n    time.sleep(.2); print('thread done')\n"
                     "threading.Thread(target=f).start(); print('main done')",
    "thread_daemon": "import threading, time\nthreading.Thread(target=time.sleep, args=(99,), daemon=True).start(); print('end')",
    "thread_daemon_busy": "import threading\ndef f():\n    while True: pass\n"
                          "threading.Thread(target=f, daemon=True).start(); print('end')",
    "thread_starts_thread": "import threading, time\ndef g(): time.sleep(.1); print('g')\n"
                            "def f(): threading.Thread(target=g).start(); print('f')\nthreading.Thread(target=f).start()",
    "thread_and_atexit": "import threading, time, atexit\natexit.register(print, 'atexit')\n"
                         "threading.Thread(target=lambda: (time.sleep(.1), print('thread'))).start()",
    "executor": "from concurrent.futures import ThreadPoolExecutor\ne = ThreadPoolExecutor(3)\n"
                "print(list(e.map(abs, [-1, -2])))\nf = e.submit(print, 'submitted')",
    "timer": "import threading\nthreading.Timer(.1, print, ('timer',)).start()",
    "main_thread": "import threading\nprint(threading.main_thread() is threading.current_thread(), threading.active_count(),"
                   " threading.current_thread().name, threading.get_ident() == threading.main_thread().ident)",
    "native_id": "import threading, os\nprint(threading.get_native_id() == os.getpid())",
    "asyncio": "import asyncio\nasync def f():\n    await asyncio.sleep(.01); return 5\nprint(asyncio.run(f()))",
    "asyncio_subprocess": "import asyncio\nasync def f():\n    p = await asyncio.create_subprocess_exec('echo', 'x')\n"
                          "    return await p.wait()\nprint(asyncio.run(f()))",
    "gc_state": "import gc\nprint(gc.isenabled(), gc.get_threshold(), gc.get_debug(), gc.callbacks, gc.garbage)",
    "gc_garbage_collected": "import gc, weakref\nclass C: pass\nc = C(); c.me = c; w = weakref.ref(c); del c\n"
                            "print(gc.collect() > 0, w())",
    "del_uses_modules": "import json, os\nclass D:\n    def __del__(self): print(json.dumps({'x': os.sep}))\nd = D()",
    "del_prints_late": "import sys\nclass D:\n    def __del__(self): sys.stdout.write('late text')\nd = D()",
    "module_level_del": "import types, sys\nclass D:\n    def __del__(self): print('in module')\n"
                        "m = types.ModuleType('m'); m.d = D(); sys.modules['m'] = m; del m",
    "multiprocessing_fork": "import multiprocessing as m\nif __name__ == '__main__':\n  c = m.get_context('fork')\n"
                            "  with c.Pool(2) as p: print(p.map(abs, [-1, -2, -3]))",
    "tempdir": "import tempfile, os\nt = tempfile.TemporaryDirectory(); print(os.path.isdir(t.name))\n"
               "f = tempfile.NamedTemporaryFile(); print(os.path.exists(f.name))",
    "logging_shutdown": "import logging, logging.handlers\nlogging.basicConfig(format='%(message)s')\n"
                        "h = logging.handlers.MemoryHandler(99, target=logging.StreamHandler()); logging.getLogger('x').addHandler(h)\n"
                        "logging.getLogger('x').warning('buffered')",
    "subinterpreter_of_the_mind": "print(__builtins__.__name__, type(__builtins__))",
    "daemon_child_keeps_running": "import subprocess\np = subprocess.Popen(['sleep', '0.1']); print(p.returncode)",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_end_of_program(shared, name):
    shared.same(["-c", PROGRAMS[name]])
    path = write(f"{shared.work}/end_{name}.py", PROGRAMS[name] + "\n")
    shared.same([path])


def test_unflushed_files_are_written(shared):
    program = """
import sys, gzip, io
a = open('text.out', 'w'); a.write('text' * 3000)
b = open('bytes.out', 'wb'); b.write(b'bytes')
c = io.BufferedWriter(io.FileIO('buffered.out', 'w')); c.write(b'buffered')
def keep():
    d = open('local.out', 'w'); d.write('held by a closure')
    return lambda: d
held = keep()
import types, holder
holder.file = open('module.out', 'w'); holder.file.write('held by a module')
cycle = [open('cycle.out', 'w')]; cycle.append(cycle); cycle[0].write('held by a cycle'); del cycle
if len(sys.argv) > 1: raise SystemExit(3)
"""
    write(f"{shared.work}/holder.py", "file = None\n")
    names = [f"{shared.work}/{name}.out" for name in ("text", "bytes", "buffered", "local", "module", "cycle")]

    def contents():
        found = [procs.read(name) for name in names]
        for name in names:
            if os.path.exists(name):
                os.remove(name)
        return found

    for args in (["-c", program], ["-c", program, "exit"]):
        shared.run_python(args)
        want = contents()

        def attempt():
            result = shared.run(args)
            assert contents() == want
            return result

        shared.until_warm(attempt)


def test_fork_and_exit_in_the_child(shared):
    """Both processes run to their end; the caller learns the parent's status, and sees both outputs."""
    program = """
import os, sys, atexit
atexit.register(print, 'atexit', flush=True)
pid = os.fork()
if pid == 0:
    print('child', flush=True)
    sys.exit(7)
print('parent', os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
sys.exit(8)
"""
    shared.same(["-c", program])
    shared.same(["-c", program.replace("sys.exit(7)", "1/0")])
    shared.same(["-c", program.replace("sys.exit(7)", "os.kill(os.getpid(), 9)")])
    shared.same(["-c", program.replace("sys.exit(7)", "os._exit(9)")])
    shared.same(["-c", "import os\nif os.fork() == 0: raise SystemExit(0)\nos.wait(); raise SystemExit(5)"])


def test_parent_that_ends_before_its_child(shared):
    """The caller's wait ends with the program, not with what it left behind."""
    shared.ready()
    program = "import os, sys\nif os.fork() == 0:\n  os.close(1); os.read(0, 1); os._exit(0)\nprint(1); sys.exit(4)"
    read, hold = os.pipe()
    try:
        result = shared.run(["-c", program], stdin=read, stderr=None)
        assert (result.status, result.out) == (4, b"1\n")
    finally:
        os.close(hold)
        os.close(read)


def test_child_that_survives_can_still_write(shared):
    program = """
import os, sys
r, w = os.pipe()
if os.fork() == 0:
    os.close(w); os.read(r, 1)          # until the parent is gone
    print('orphan', flush=True); os._exit(0)
print('parent', flush=True); os._exit(3)
"""
    shared.same(["-c", program])
    shared.same(["-c", program.replace("os._exit(3)", "sys.exit(3)")])


def test_double_fork_daemon(shared):
    program = """
import os, sys
if os.fork(): os.wait(); sys.exit(2)
os.setsid()
if os.fork(): os._exit(0)
print('daemon', os.getsid(0) != os.getpid(), flush=True)
os._exit(0)
"""
    want = shared.run_python(["-c", program])
    got = shared.until_warm(lambda: shared.run(["-c", program]))
    assert (got.status, got.out) == (want.status, want.out) == (2, b"daemon True\n")


@pytest.mark.parametrize("call", [
    "os.execv('/bin/echo', ['echo', 'replaced'])", "os.execvp('sh', ['sh', '-c', 'echo replaced; exit 6'])",
    "os.execve('/usr/bin/env', ['env'], {'ONLY': '1'})", "os.execv('/bin/sh', ['sh', '-c', 'kill -9 $$'])",
    "os.execv(sys.executable, [sys.executable, '-c', 'import sys; print(sys.flags); sys.exit(9)'])",
    "os.execv('/nonexistent', ['x'])",
])
def test_exec(shared, call):
    shared.same(["-c", f"import os, sys; print('before', flush=True); {call}"])


@pytest.mark.parametrize("end", ["", "sys.exit(5)", "os._exit(6)", "1/0", "os.kill(os.getpid(), 15)", "os.abort()",
                                 "os.execv('/bin/sh', ['sh', '-c', 'echo x; exit 7'])"])
def test_close_every_descriptor(shared, end):
    """What daemons do at their start: it must not cut the program from its caller."""
    shared.same(["-c", f"import os, sys; os.closerange(3, 4096); print('closed', flush=True); {end}"])
    shared.same(["-c", f"import os, sys; print('all', flush=True); os.closerange(0, 4096); {end}"])


def test_descriptors_reused_after_closing(shared):
    program = """
import os
os.closerange(3, 100)
fds = [os.open('/dev/null', os.O_RDWR) for _ in range(20)]
print(fds)
r, w = os.pipe(); os.write(w, b'x'); print(os.read(r, 1))
"""
    shared.same(["-c", program])


def test_setsid_and_process_groups(shared):
    """Sessions differ by nature; what can be done with them does not."""
    program = "import os\nif os.fork() == 0:\n  os.setsid(); print(os.getsid(0) == os.getpid(), os.getpgrp() == os.getpid())\n" \
              "  os._exit(0)\nos.wait()"
    shared.same(["-c", program.replace("os._exit(0)", "import sys; sys.stdout.flush(); os._exit(0)")])


def test_children_are_the_programs_own(shared):
    """No strange child is there to be waited for, and none disturbs subprocess."""
    shared.same(["-c", "import os\ntry: print(os.wait())\nexcept ChildProcessError as e: print(e)"])
    shared.same(["-c", "import subprocess; print(subprocess.run(['sh', '-c', 'exit 3']).returncode)"])
    shared.same(["-c", "import signal, subprocess; signal.signal(17, lambda *a: print('chld', flush=True)); "
                 "subprocess.run(['true'])"])
    shared.same(["-c", "import os; print(os.system('exit 4'), os.popen('echo x').read())"])


def test_interval_timers_and_alarm(shared):
    shared.same(["-c", "import signal; print(signal.alarm(0), signal.getitimer(0), signal.getitimer(1), signal.getitimer(2))"])
    shared.same(["-c", "import signal, time; signal.alarm(1); time.sleep(30)"])


def test_slow_exit_is_waited_for(shared):
    """The status comes only after the last word: an atexit function that takes its time is part of the run."""
    shared.ready()
    begin = time.monotonic()
    result = shared.run(["-c", "import atexit, time; atexit.register(lambda: (time.sleep(.5), print('late')))"])
    assert result.out == b"late\n" and (time.monotonic() - begin >= .5) and (result.warm or STANDIN)


@pytest.mark.every_python
def test_signal_handlers_go_first(warm):
    """What only a handler keeps alive ends while everything is still there: an event loop, as scrapy leaves it."""
    program = write(f"{warm.work}/s.py", """
import signal, textwrap
class Held:
    def __init__(self, name): self.name = name
    def handle(self, *ignored): pass
    def __del__(self):
        import json
        print(json.dumps(self.name), textwrap.dedent(' end'))
for number in signal.SIGTERM, signal.SIGINT, signal.SIGRTMAX:
    signal.signal(number, Held(number.name).handle)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
""")
    warm.same([program])
    warm.same(["-c", "import signal\nsignal.signal(1, [].append)\nsignal.raise_signal(1)\nprint(signal.getsignal(1))"])
    warm.same(["-c", f"__import__('runpy').run_path({program!r})"])


@pytest.mark.every_python
@pytest.mark.parametrize("end", ["loop.call_soon(loop.stop); loop.run_forever(); del loop",
                                 "print(loop.run_until_complete(asyncio.sleep(0, 7)))"])
def test_event_loop_left_set(shared, end):
    """A cycle that only the end of a module sets free: python collects it when sys and builtins are empty, and nobody
    hears what its finaliser has to complain about."""
    shared.same(["-c", f"import asyncio\nloop = asyncio.new_event_loop()\nasyncio.set_event_loop(loop)\n{end}"])
