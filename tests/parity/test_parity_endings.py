"""How programs end: every SystemExit, exception, signal and broken stream."""

import resource
import signal

from parity import Case, check

EXITS = {
    "nothing": "", "none": "None", "0": "0", "1": "1", "2": "2", "255": "255", "256": "256", "-1": "-1", "-256": "-256",
    "true": "True", "false": "False", "2**31": "2**31", "2**63": "2**63", "-2**70": "-2**70", "text": "'a text'",
    "empty-text": "''", "bytes": "b'bytes'", "float": "1.5", "list": "[1, 2]", "empty-tuple": "()", "tuple-of-one": "(3,)",
    "tuple": "(1, 2)", "dict": "{}", "class": "int", "exception": "ValueError('v')", "surrogate": "'\\udc80'",
    "unicode": "'h\\xe9llo \\u65e5'", "nan": "float('nan')", "int-subclass": "type('I', (int,), {})(7)",
    "int-enum": "__import__('enum').IntEnum('E', 'a b').b", "str-raises": "type('S', (), {'__str__': lambda s: 1/0})()",
    "systemexit": "SystemExit(4)",
}
# What goes wrong in sys.exit() itself is said while the interpreter ends, from 3.12 on: if the threading module is not there.
FAILING_EXITS = "2**63", "-2**70", "str-raises"
NO_STDERR = {"none": "sys.stderr = None", "deleted": "del sys.stderr", "nonsense": "sys.stderr = 3", "closed": "sys.stderr.close()"}

TRACEBACKS = {
    "simple": "1/0",
    "function": "def f(n):\n    return f(n - 1) if n else [][1]\nf(3)",
    "method": "class A:\n    def m(self): raise RuntimeError('in a method')\nA().m()",
    "lambda": "(lambda: {}['x'])()",
    "comprehension": "[1 // n for n in (1, 0)]",
    "generator": "def g():\n    yield 1\n    raise StopIteration\nlist(g())",
    "cause": "try:\n    {}['k']\nexcept KeyError as e:\n    raise ValueError('v') from e",
    "context": "try:\n    1/0\nfinally:\n    undefined",
    "no-context": "try:\n    1/0\nexcept ZeroDivisionError:\n    raise OSError(2, 'x') from None",
    "str-raises": "class E(Exception):\n    def __str__(self): raise TypeError\nraise E",
    "base-exception": "raise BaseException('b')",
    "recursion": "def f(): f()\nf()",
    "repeated": "def f(n):\n    if n > 50: raise ValueError\n    f(n + 1)\nf(0)",
    "mutual-recursion": "def f(n): g(n)\ndef g(n): f(n + 1)\nf(0)",
    "in-stdlib": "import json\njson.loads('{')",
    "in-import": "import helper",
    "in-import-chain": "import first",
    "syntax-in-import": "import broken",
    "multiline": "(1 +\n 2 +\n None)",
    "unicode": "raise ValueError('\\u65e5\\u672c \\udc80')",
    "unicode-source": "d\xe9j\xe0 = 1\nraise ValueError('d\xe9j\xe0 \u65e5\u672c', d\xe9j\xe0.\u65e5\u672c)",
    "missing-module": "import missing_module_x",
    "missing-name-in-module": "from json import load_",
    "name-suggestion": "value = 1\nprint(valeu)",
    "attribute-suggestion": "class A:\n    colour = 1\nA().color",
    "keyword-suggestion": "print('x', flsh=True)",
    "memory-error": "x = [0] * (1 << 60)",
    "os-error": "open('/no/such/file')",
    "notes": "e = ValueError('x')\ngetattr(e, 'add_note', print)('a note')\nraise e",
    "type-not-exception": "raise 5",
    "exception-class-in-module": "import helper_error\nraise helper_error.Custom('text')",
    "nested-class": "class A:\n    class E(Exception): pass\nraise A.E('q')",
    "carets": "def f(a, b): return a + b\nprint(f(1, 2) + f('x',\n    3))",
    "exec": "exec('x = 1\\nraise ValueError(x)')",
    "compiled-with-name": "exec(compile('1/0', 'elsewhere.py', 'exec'))",
    "deleted-source": "import os\nos.remove(__file__)\n1/0",
    "eval-syntax": "eval('1 +')",
    "assert": "assert (1, 2) == (1, 3), 'message'",
    "unicode-decode": "b'\\xff'.decode()",
    "stop-async": "import asyncio\nasync def f(): raise LookupError('in a task')\nasyncio.run(f())",
    "tracebacklimit": "import sys\nsys.tracebacklimit = 1\ndef f(n):\n    return f(n - 1) if n else [][1]\nf(5)",
    "with-frames-cleared": "import sys\ntry:\n    1/0\nexcept ZeroDivisionError as e:\n    t = e.__traceback__\nraise KeyError(1).with_traceback(t)",
    "warning-as-error": "import warnings\nwarnings.simplefilter('error')\nwarnings.warn('w')",
    "from-thread-join": "import threading\nt = threading.Thread(target=lambda: 1/0, name='T')\nt.start(); t.join()\nprint('on')",
    "in-del": "class D:\n    def __del__(self): 1/0\nd = D()\ndel d\nprint('on')",
    "in-del-at-exit": "class D:\n    def __del__(self): 1/0\nd = D()",
    "long-line": "x = " + " + ".join(["1"] * 300) + " + None",
}
HELPERS = {
    "helper.py": "def f():\n    raise ImportError('from helper')\nf()\n",
    "first.py": "import second\n", "second.py": "x = 1\nundefined_name\n", "broken.py": "x = 1\nif x\n    pass\n",
    "helper_error.py": "class Custom(Exception): pass\n",
}

SYNTAX = {
    "paren": "x = (", "colon": "if x\n  y", "indent": "  indented", "two-names": "a b", "string": "'unterminated",
    "tab": "x = 1\n\ty = 2", "return": "return 3", "f-string": "f'{'", "print": "print 1", "await": "await x",
    "null": "\x00", "octal": "x = 0777", "future": "from __future__ import nothing", "backslash": "\\", "unicode": "\xe9 = )",
    "encoding": b"# -*- coding: nonsense -*-\n", "not-utf8": b"x = '\xff'\n", "escape-warning": "print('\\d')", "nonlocal": "nonlocal x",
    "deep-parens": "(" * 300 + ")" * 300, "star": "*x = 1", "duplicate-argument": "def f(a, a): pass",
}

HOOKS = {
    "excepthook": "import sys\nsys.excepthook = lambda *a: print('hook', a[0].__name__)\n1/0",
    "excepthook-raises": "import sys\nsys.excepthook = lambda *a: 1/0\n[][0]",
    "excepthook-exits": "import sys\nsys.excepthook = lambda *a: sys.exit(6)\n1/0",
    "excepthook-none": "import sys\nsys.excepthook = None\n1/0",
    "excepthook-deleted": "import sys\ndel sys.excepthook\n1/0",
    "excepthook-original": "import sys\nprint(sys.excepthook is sys.__excepthook__, sys.excepthook)\n1/0",
    "excepthook-last": "import sys, atexit\natexit.register(lambda: print(sys.last_type, sys.last_value, sys.last_traceback is not None))\n1/0",
    "excepthook-not-for-exit": "import sys\nsys.excepthook = print\nsys.exit(3)",
    "excepthook-keyboard": "import sys\nsys.excepthook = lambda *a: print('hook', a[0].__name__)\nraise KeyboardInterrupt",
    "threading-excepthook": "import threading\nthreading.excepthook = lambda a: print('hook', a.exc_type.__name__, a.thread.name)\n"
                            "t = threading.Thread(target=lambda: 1/0, name='T'); t.start(); t.join()",
    "threading-excepthook-raises": "import threading\nthreading.excepthook = lambda a: 1/0\n"
                                   "t = threading.Thread(target=lambda: [][1], name='T'); t.start(); t.join()",
    "threading-excepthook-original": "import threading\nprint(threading.excepthook is threading.__excepthook__)\n"
                                     "t = threading.Thread(target=lambda: [][1], name='T'); t.start(); t.join()",
    "thread-raises-exit": "import threading, sys\nt = threading.Thread(target=sys.exit, args=(3,)); t.start(); t.join()\nprint('on')",
    "raw-thread-raises": "import _thread, time\nl = _thread.allocate_lock(); l.acquire()\n"
                         "def f():\n    try: raise ValueError('raw')\n    finally: l.release()\n"
                         "_thread.start_new_thread(f, ()); l.acquire(); time.sleep(0.2)",
    "unraisablehook": "import sys\nsys.unraisablehook = lambda u: print('hook', u.exc_type.__name__, u.err_msg, u.object.__qualname__)\n"
                      "class D:\n    def __del__(self): 1/0\nd = D(); del d",
    "unraisablehook-raises": "import sys\nsys.unraisablehook = lambda u: [][1]\nclass D:\n    def __del__(self): 1/0\nd = D(); del d",
    "unraisablehook-at-exit": "import sys\nsys.unraisablehook = lambda u: print('hook', u.exc_type.__name__)\n"
                              "class D:\n    def __del__(self): 1/0\nd = D()",
    "displayhook": "import sys\nsys.displayhook(3)\nprint(_)\nsys.displayhook(None)",
    "breakpointhook": "import sys\nsys.breakpointhook = lambda *a, **k: print('stopped', a)\nbreakpoint(1)",
    "audit-hook": "import sys\nsys.addaudithook(lambda e, a: e == 'my.event' and print('audit', a))\nsys.audit('my.event', 1)",
}

INTERRUPTS = {
    "raise": "raise KeyboardInterrupt",
    "raise-text": "raise KeyboardInterrupt('text')",
    "subclass": "class K(KeyboardInterrupt): pass\nraise K('s')",
    "from-signal": "import os, time\nos.kill(os.getpid(), 2)\ntime.sleep(30)",
    "handled": "import os, time\ntry:\n    os.kill(os.getpid(), 2); time.sleep(30)\nexcept KeyboardInterrupt: print('handled')",
    "atexit": "import atexit\natexit.register(print, 'at exit')\nraise KeyboardInterrupt",
    "in-atexit": "import atexit\n@atexit.register\ndef f(): raise KeyboardInterrupt",
    "finally": "try:\n    raise KeyboardInterrupt\nfinally:\n    print('finally')",
    "then-exit": "import sys\ntry:\n    raise KeyboardInterrupt\nexcept KeyboardInterrupt:\n    sys.exit(130)",
    "ignored": "import signal, os\nsignal.signal(2, signal.SIG_IGN)\nos.kill(os.getpid(), 2)\nprint('on')",
    "default": "import signal, os\nsignal.signal(2, signal.SIG_DFL)\nos.kill(os.getpid(), 2)\nprint('never')",
    "in-thread": "import threading, _thread\nt = threading.Thread(target=_thread.interrupt_main)\n"
                 "t.start(); t.join()\nimport time; time.sleep(30)",
    "asyncio": "import asyncio, os\nasync def f():\n    try:\n        os.kill(os.getpid(), 2)\n        await asyncio.sleep(30)\n"
               "    except asyncio.CancelledError:\n        print('cancelled'); raise\nasyncio.run(f())",
    "caught-by-caller": "import sys\nsys.excepthook = lambda *a: None\nraise KeyboardInterrupt",
}

STREAMS = {
    "stdout-full": ("print('x')", "/dev/full", "pipe"),
    "stdout-full-flushed": ("print('x', flush=True)", "/dev/full", "pipe"),
    "stdout-full-and-exit": ("import sys\nprint('x')\nsys.exit(3)", "/dev/full", "pipe"),
    "stdout-full-and-error": ("print('x')\n1/0", "/dev/full", "pipe"),
    "stdout-full-much": ("print('x' * 100000)", "/dev/full", "pipe"),
    "stdout-full-closed": ("import sys\nprint('x')\nsys.stdout.close()", "/dev/full", "pipe"),
    "stdout-full-atexit": ("import atexit\natexit.register(print, 'x')", "/dev/full", "pipe"),
    "stdout-full-nothing": ("pass", "/dev/full", "pipe"),
    "stdout-full-interrupt": ("print('x')\nraise KeyboardInterrupt", "/dev/full", "pipe"),
    "stderr-full": ("1/0", "pipe", "/dev/full"),
    "stderr-full-exit": ("import sys\nsys.exit('message')", "pipe", "/dev/full"),
    "both-full": ("print('x')\n1/0", "/dev/full", "/dev/full"),
    "stdout-broken": ("print('x')", "broken", "pipe"),
    "stdout-broken-flushed": ("print('x', flush=True)", "broken", "pipe"),
    "stdout-broken-much": ("for i in range(10000): print('x' * 100)", "broken", "pipe"),
    "stdout-broken-caught": ("import sys, os\ntry:\n    print('x', flush=True)\nexcept BrokenPipeError:\n"
                             "    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)\n    sys.exit(1)", "broken", "pipe"),
    "stdout-broken-default-sigpipe": ("import signal\nsignal.signal(13, signal.SIG_DFL)\nprint('x', flush=True)", "broken", "pipe"),
    "stdout-broken-exit": ("import sys\nprint('x')\nsys.exit(5)", "broken", "pipe"),
    "stderr-broken": ("1/0", "pipe", "broken"),
    "stdout-file": ("print('x' * 9000)\nimport os\nos.write(1, b'unbuffered')", "{dir}/out", "pipe"),
    "both-files": ("import sys\nprint('out')\nprint('err', file=sys.stderr)\n1/0", "{dir}/out", "{dir}/err"),
}
CLOSED = {
    "stdin": ((0,), "import sys\nprint(sys.stdin, sys.__stdin__)"),
    "stdin-input": ((0,), "input()"),
    "stdout": ((1,), "import sys\nprint('nowhere')\nprint(sys.stdout, file=sys.stderr)"),
    "stderr": ((2,), "import sys\nprint(sys.stderr)\n1/0"),
    "all": ((0, 1, 2), "import sys\nopen('seen', 'w').write(repr((sys.stdin, sys.stdout, sys.stderr)))"),
    "stdout-first-open": ((1,), "import os, sys\nprint(os.open('/dev/null', 0), file=sys.stderr)"),
    "stderr-exit-text": ((2,), "import sys\nsys.exit('text')"),
    "stdout-and-warning": ((1,), "import warnings\nwarnings.warn('w')"),
    "by-itself": ((), "import sys\nsys.stdout.close()\nprint('x')"),
    "fd-by-itself": ((), "import os\nprint('x')\nos.close(1)"),
    "stderr-by-itself": ((), "import sys\nsys.stderr.close()\n1/0"),
    "both-fds-by-itself": ((), "import os\nprint('x')\nos.closerange(0, 3)"),
    "stdout-deleted": ((), "import sys\ndel sys.stdout\nprint('x')"),
    "stdout-none": ((), "import sys\nsys.stdout = None\nprint('x')"),
    "stderr-none": ((), "import sys\nsys.stderr = None\n1/0"),
    "stderr-deleted": ((), "import sys\ndel sys.stderr\n1/0"),
    "stdout-replaced": ((), "import sys, io\nsys.stdout = io.StringIO()\nprint('x')\nsys.stderr.write(sys.stdout.getvalue())"),
    "stdout-flush-raises": ((), "import sys\nclass F:\n    def write(self, x): pass\n    def flush(self): 1/0\nsys.stdout = F()"),
    "stdout-detached": ((), "import sys\nb = sys.stdout.detach()\nb.write(b'detached\\n')"),
    "all-from-3": ((), "import os\nos.closerange(3, 2000)\nprint('still')"),
    "all-from-3-exit": ((), "import os, sys\nos.closerange(3, 2000)\nsys.exit(9)"),
}

DEATHS = ["SIGTERM", "SIGKILL", "SIGSEGV", "SIGUSR1", "SIGHUP", "SIGABRT", "SIGALRM", "SIGQUIT", "SIGPIPE", "SIGXCPU", "SIGSYS",
          "SIGRTMIN", "SIGCHLD", "SIGVTALRM"]
CRASHES = {
    "abort": "os.abort()",
    "_exit": "print('lost'); os._exit(77)",
    "string_at": "import ctypes; ctypes.string_at(0)",
    "raise-signal": "import signal; signal.raise_signal(signal.SIGFPE)",
    "alarm": "import signal; signal.alarm(1); signal.pause()",
    "setitimer": "import signal; signal.setitimer(signal.ITIMER_REAL, 0.01); signal.pause()",
    "kill-group": "os.setpgid(0, 0); os.killpg(0, 15)",
    "exec-true": "print('lost'); os.execv('/bin/true', ['true'])",
    "exec-exit-code": "os.execv('/bin/sh', ['sh', '-c', 'echo from sh; exit 3'])",
    "exec-dies": "os.execv('/bin/sh', ['sh', '-c', 'kill -9 $$'])",
    "exec-missing": "os.execv('/no/such', ['x'])",
    "exec-python": "import sys; os.execv(sys.executable, [sys.executable, '-c', 'import sys; print(6); sys.exit(6)'])",
    "fork-exit": "pid = os.fork()\nif not pid: raise SystemExit(4)\nprint(os.waitstatus_to_exitcode(os.wait()[1]))",
    "fork-uncaught": "pid = os.fork()\nif not pid: 1/0\nprint(os.waitstatus_to_exitcode(os.wait()[1]))",
    "fork-buffered": "print('once or twice?')\npid = os.fork()\nif pid: os.wait()",
    "fork-child-_exit": "print('before', flush=True)\nif not os.fork(): os._exit(5)\nprint(os.waitstatus_to_exitcode(os.wait()[1]))",
    "fork-parent-first": "r, w = os.pipe()\nif not os.fork():\n    os.close(w); os.read(r, 1); print('child', flush=True); os._exit(0)\n"
                         "print('parent', flush=True)\nos._exit(2)",
}
FAULTS = {
    "enable": "faulthandler.enable(); print(faulthandler.is_enabled())",
    "sigsegv": "faulthandler.enable(); faulthandler._sigsegv()",
    "sigabrt": "faulthandler.enable(); os.abort()",
    "to-a-file": "f = open('trace', 'w'); faulthandler.enable(f); faulthandler._sigfpe()",
    "stack-overflow": "faulthandler.enable(all_threads=False); faulthandler._stack_overflow()",
    "dump": "faulthandler.dump_traceback()",
    "dump-in-function": "def f(): faulthandler.dump_traceback(all_threads=False)\nf()",
    "register": "faulthandler.register(10, all_threads=False); os.kill(os.getpid(), 10); print('on')",
    "later": "faulthandler.dump_traceback_later(0.2, exit=True); import time; time.sleep(30)",
    "fatal-error": "faulthandler.enable(); faulthandler._fatal_error_c_thread() if hasattr(faulthandler, 'x') else os.abort()",
}

CASES = [
    *(Case(f"sys.exit-{name}", f"import sys\nprint('out')\nsys.exit({value})", until=(3, 11) if name in FAILING_EXITS else (3, 99))
      for name, value in EXITS.items()),
    *(Case(f"raise-SystemExit-{name}", f"raise SystemExit({value})", way="-c", until=(3, 11) if name in FAILING_EXITS else (3, 99))
      for name, value in list(EXITS.items())[::4]),
    *(Case(f"sys.exit-{name}-3.12", f"import sys\nprint('out')\nsys.exit({EXITS[name]})", since=(3, 12), preload=False)
      for name in FAILING_EXITS),
    *(Case(f"raise-SystemExit-{name}-3.12", f"raise SystemExit({EXITS[name]})", way="-c", since=(3, 12), preload=False)
      for name in FAILING_EXITS),
    *(Case(f"sys.exit-stderr-{name}", f"import sys\n{change}\nsys.exit('t\xe9xt \udc80')") for name, change in NO_STDERR.items()),
    Case("SystemExit-subclass", "class E(SystemExit): code = 9\nraise E('text')"),
    Case("SystemExit-code-changed", "e = SystemExit(1)\ne.code = 7\nraise e"),
    Case("SystemExit-code-raises", "class E(SystemExit):\n    @property\n    def code(self): 1/0\nraise E(5)"),
    Case("exit-by-name", "exit(4)"), Case("quit-by-name", "quit()"),
    Case("exit-in-except", "try:\n    1/0\nexcept ZeroDivisionError:\n    exit('after an error')"),
    Case("exit-in-finally", "import sys\ntry:\n    sys.exit(1)\nfinally:\n    print('finally')"),
    Case("exit-in-generator", "import sys\ndef g():\n    try: yield\n    finally: print('closed')\nx = g(); next(x)\nsys.exit(2)"),
    Case("exit-in-handler", "import signal, os, sys\nsignal.signal(10, lambda *a: sys.exit(11))\nos.kill(os.getpid(), 10)"),
    Case("exit-in-import", "import quits", files={"quits.py": "raise SystemExit(12)\n"}),
    Case("exit-via-asyncio", "import asyncio, sys\nasync def f(): sys.exit(13)\nasyncio.run(f())"),
    Case("exit-in-del", "class D:\n    def __del__(self): raise SystemExit(3)\nd = D(); del d\nprint('on')"),
    *(Case(f"traceback-{name}", code, files=HELPERS) for name, code in TRACEBACKS.items()),
    *(Case(f"traceback-{name}-{way}", TRACEBACKS[name], way=way, files=HELPERS)
      for way in ("-c", "-m", "-") for name in ("function", "cause", "in-import", "carets", "in-del-at-exit")),
    Case("traceback-group", "raise ExceptionGroup('g', [ValueError(1), ExceptionGroup('h', [OSError(2)])])", since=(3, 11)),
    *(Case(f"syntax-{name}", code) for name, code in SYNTAX.items()),
    *(Case(f"syntax-{name}-c", SYNTAX[name], way="-c") for name in ("paren", "indent", "escape-warning", "deep-parens", "unicode")),
    *(Case(f"hook-{name}", code) for name, code in HOOKS.items()),
    *(Case(f"interrupt-{name}", code) for name, code in INTERRUPTS.items()),
    Case("interrupt-from-outside", "import time, sys\nsys.tracebacklimit = 0\nprint('ready', flush=True)\n"
         "while True: time.sleep(.01)", send=signal.SIGINT),
    Case("terminated-from-outside", "import time\nprint('ready', flush=True)\ntime.sleep(30)", send=signal.SIGTERM),
    Case("handled-from-outside", "import signal, sys, time\nsignal.signal(15, lambda *a: sys.exit('told to end'))\n"
         "print('ready', flush=True)\nwhile True: time.sleep(.01)", send=signal.SIGTERM),
    Case("hung-up-from-outside", "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [1])\n"
         "print('ready', flush=True)\nprint(signal.sigwait([1]))", send=signal.SIGHUP),
    *(Case(f"stream-{name}", code, stdout=out, stderr=err) for name, (code, out, err) in STREAMS.items()),
    *(Case(f"closed-{name}", code, close=numbers) for name, (numbers, code) in CLOSED.items()),
    *(Case(f"death-{name}", f"import os, signal\nprint('kept', flush=True)\nprint('lost')\n"
           f"signal.signal(signal.{name}, signal.SIG_DFL)\nos.kill(os.getpid(), signal.{name})" if name != "SIGKILL" else
           "import os\nprint('kept', flush=True)\nprint('lost')\nos.kill(os.getpid(), 9)") for name in DEATHS),
    *(Case(f"end-{name}", f"import os\n{code}") for name, code in CRASHES.items()),
    *(Case(f"faulthandler-{name}", f"import faulthandler, os\n{code}") for name, code in FAULTS.items()),
    Case("faulthandler-option", "import os\nos.abort()", options=("-X", "faulthandler")),
    Case("faulthandler-variable", "import faulthandler\nprint(faulthandler.is_enabled())", env={"PYTHONFAULTHANDLER": "1"}),
    Case("core-limit", "import os\nos.abort()", before=lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0))),
    Case("cpu-limit", "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (1, 2))\nwhile True: pass"),
]


def test_same_ending(user, case, record):
    record(check(user, case))
