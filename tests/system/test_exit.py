"""How a program ends is how its caller sees it end: every code, every exception, every signal."""

import signal

import pytest
from harness import STANDIN, write


def test_every_exit_code(shared):
    shared.ready()
    warm = 0
    for code in range(256):
        result = shared.run(["-c", f"import sys; sys.exit({code})"])
        assert (result.kind, result.value, result.out, result.err) == ("exit", code, b"", b"")
        warm += result.warm
    assert warm > 200 or STANDIN


@pytest.mark.parametrize("value", [
    "", "None", "0", "1", "255", "256", "257", "-1", "-255", "-256", "1 << 40", "-(1 << 70)", "'text'", "b'bytes'", "''",
    "True", "False", "3.5", "[1, 2]", "()", "(3,)", "object", "{}", "Exception('e')", "'\\xe9\\udc80'", "float('nan')",
])
def test_sys_exit(shared, value):
    shared.same(["-c", f"import sys; print('out'); sys.exit({value})"])
    shared.same(["-c", f"raise SystemExit({value})"])
    shared.same(["-c", f"import sys, os; os._exit(({value}) if isinstance({value or 0}, int) and "
                 f"abs({value or 0}) < 1 << 31 else 7)" if value else "import os; os._exit(9)"])


EXCEPTIONS = {
    "simple": "1/0",
    "nested": "def f(n):\n    return f(n - 1) if n else [][1]\nf(5)",
    "chained": "try:\n    {}['k']\nexcept KeyError as e:\n    raise ValueError('v') from e",
    "context": "try:\n    1/0\nfinally:\n    undefined",
    "suppressed": "try:\n    1/0\nexcept ZeroDivisionError:\n    raise OSError(2, 'x') from None",
    "custom": "class E(Exception):\n    def __str__(self): raise TypeError\nraise E",
    "base": "raise BaseException('b')",
    "generator_exit": "raise GeneratorExit",
    "syntax": "eval('1 +')",
    "recursion": "def f(): f()\nf()",
    "in_library": "import json\njson.loads('{')",
    "multiline": "(1 +\n 2 +\n None)",
    "unicode": "raise ValueError('\\u65e5\\u672c \\udc80')",
    "import": "import missing_module_x",
    "name_suggestion": "value = 1\nprint(valeu)",
    "import_suggestion": "from json import load_",
    "memory": "x = [0] * (1 << 60)",
    "repeated": "def f(n):\n    if n > 900: raise ValueError\n    f(n + 1)\nf(0)",
    "excepthook": "import sys\nsys.excepthook = lambda *a: print('hook', a[0].__name__)\n1/0",
    "broken_excepthook": "import sys\nsys.excepthook = lambda *a: 1/0\n[][0]",
    "exit_in_excepthook": "import sys\nsys.excepthook = lambda *a: sys.exit(6)\n1/0",
    "original_excepthook": "import sys\nprint(sys.excepthook is sys.__excepthook__, sys.excepthook)\n1/0",
    "unraisable": "class D:\n    def __del__(self): 1/0\nd = D(); del d\nprint('on')",
    "in_thread": "import threading\nt = threading.Thread(target=lambda: 1/0, name='T'); t.start(); t.join()",
    "notes": "e = ValueError('x')\ngetattr(e, 'add_note', print)('a note')\nraise e",
    "keyboard": "raise KeyboardInterrupt",
    "keyboard_text": "raise KeyboardInterrupt('text')",
    "exit_by_name": "exit(4)",
    "quit_by_name": "quit()",
}


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_uncaught_exception(shared, name):
    shared.same(["-c", EXCEPTIONS[name]])
    path = write(f"{shared.work}/{name}.py", "import sys\n\n" + EXCEPTIONS[name] + "\n")
    shared.same([path])
    shared.same(["-m", name])


def test_exception_group(shared):
    shared.same(["-c", "raise ExceptionGroup('g', [ValueError(1), ExceptionGroup('h', [OSError(2)])])"])


SYNTAX = ["x = (", "if x\n  y", "  indented", "def f(:", "a b", "'unterminated", "x = 1\n\ty = 2", "return 3", "f'{'",
          "print 1", "await x", "\x00", "x = 0777", "from __future__ import nothing", "\\", "é = )"]


@pytest.mark.parametrize("text", SYNTAX, ids=ascii)
def test_syntax_error(shared, text):
    path = write(f"{shared.work}/syntax.py", "ok = 1\n" + text + "\n")
    shared.same([path], warm=None)
    if "\x00" not in text:
        shared.same(["-c", text], warm=None)


SIGNALS = [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGUSR1, signal.SIGINT, signal.SIGABRT, signal.SIGALRM,
           signal.SIGQUIT, signal.SIGRTMIN + 2, signal.SIGSYS]


@pytest.mark.parametrize("number", SIGNALS, ids=repr)
def test_death_by_signal(shared, number):
    """Unflushed output is lost as it is in python; flushed output is not."""
    program = f"import os, sys; print('kept', flush=True); print('lost'); os.kill(os.getpid(), {int(number)})"
    result = shared.same(["-c", f"import signal; signal.signal(2, signal.SIG_DFL); {program}"])
    assert (result.kind, result.value) == ("signal", number)


@pytest.mark.parametrize("call", [
    "os.abort()", "ctypes.string_at(0)", "faulthandler._sigsegv()", "signal.raise_signal(signal.SIGFPE)",
    "os.kill(os.getpid(), 0)", "os._exit(77)", "os.kill(os.getpid(), signal.SIGCHLD)", "os.kill(os.getpid(), 28)",
])
def test_crash(shared, call):
    shared.same(["-c", f"import os, ctypes, signal, faulthandler; print('before', flush=True); {call}"])


def test_crash_with_faulthandler(shared):
    program = "import faulthandler, ctypes; faulthandler.enable(); ctypes.string_at(0)"
    path = write(f"{shared.work}/crash.py", program)
    want = shared.run_python([path])
    got = shared.until_warm(lambda: shared.run([path]))
    assert (got.kind, got.value) == (want.kind, want.value) == ("signal", signal.SIGSEGV)
    assert b"Segmentation fault" in got.err and b"crash.py" in got.err


def test_keyboard_interrupt_from_signal(shared):
    """Python ends by SIGINT itself, after its traceback; a handled one ends as the program says."""
    shared.same(["-c", "import os, time; os.kill(os.getpid(), 2); time.sleep(30)"])
    shared.same(["-c", "import os, time\ntry:\n  os.kill(os.getpid(), 2); time.sleep(30)\n"
                 "except KeyboardInterrupt: print('handled')"])
    shared.same(["-c", "import os, time, atexit; atexit.register(print, 'at exit'); os.kill(os.getpid(), 2); time.sleep(9)"])


def test_exit_in_odd_places(shared):
    shared.same(["-c", "import threading, sys; t = threading.Thread(target=sys.exit, args=(3,)); t.start(); t.join()"])
    shared.same(["-c", "import threading, os; threading.Thread(target=os._exit, args=(3,)).start(); import time; time.sleep(30)"])
    shared.same(["-c", "import atexit, sys; atexit.register(sys.exit, 4)"])
    shared.same(["-c", "import atexit, os; atexit.register(os._exit, 5)"])
    shared.same(["-c", "import atexit\n@atexit.register\ndef f(): 1/0\nimport sys; sys.exit(6)"])
    shared.same(["-c", "import os\nclass D:\n  def __del__(self, end=os._exit): end(8)\nd = D()"])
    shared.same(["-c", "import sys\ntry:\n  sys.exit(1)\nfinally:\n  print('finally')"])
    shared.same(["-c", "import signal, os, sys\nsignal.signal(10, lambda *a: sys.exit(11)); os.kill(os.getpid(), 10)"])
