"""Explicit preloads: they make imports free, change nothing else, and may fail without harm."""

import json
import os
import re

import procs
import pytest
from harness import STANDIN, write
from test_staleness import is_preloaded

pytestmark = pytest.mark.timeout(150)


def with_library(warm, **modules):
    path = f"{warm.work}/lib"
    os.makedirs(path, exist_ok=True)
    for name, text in modules.items():
        write(f"{path}/{name}.py", text)
    warm.environment["PYTHONPATH"] = path
    return path


@pytest.mark.every_python
def test_preloaded(warm):
    warm.environment["WARMFORK_PRELOAD"] = "json,decimal,email.message"
    for module in ("json", "decimal", "email.message"):
        is_preloaded(warm, module)
    warm.same(["-c", "import json, decimal; print(json.dumps([1]), decimal.Decimal('0.1'), 'json' in vars())"])
    warm.same(["-c", "print('json' in dir(), 'decimal' in globals())"])
    warm.same(["-m", "json.tool"], input=b"[1, 2]")
    warm.same([write(f"{warm.work}/s.py", "import json; print(json.__file__, json.__spec__.name, json.loads('[1]'))\n")])
    assert STANDIN or any("json" in str(zygote) for zygote in warm.status()["zygotes"])


@pytest.mark.parametrize("text", ["json", " json , decimal ", "json,json", "json,,decimal,", "os.path", "json.decoder,json"])
def test_spellings(warm, text):
    warm.environment["WARMFORK_PRELOAD"] = text
    warm.same(["-c", "import json, decimal, os.path; print(json.dumps([os.path.sep]), decimal.Decimal(1))"])


BROKEN = {
    "missing": None,
    "raises": "raise ValueError('this preload is broken')\n",
    "syntax": "def (:\n",
    "exits": "import sys; sys.exit(3)\n",
    "dies": "import os; os._exit(3)\n",
    "kills_itself": "import os; os.kill(os.getpid(), 9)\n",
    "segfaults": "import ctypes; ctypes.string_at(0)\n",
    "interrupt": "raise KeyboardInterrupt\n",
    "closes_everything": "import os; os.closerange(0, 1000)\n",
    "execs": "import os; os.execv('/bin/true', ['true'])\n",
}


@pytest.mark.parametrize("name", BROKEN)
def test_preload_that_fails(warm, name):
    """The program runs, as if nothing had been asked for; status and log say why there is no preload."""
    with_library(warm, **({f"broken_{name}": BROKEN[name]} if BROKEN[name] else {}))
    env = {"WARMFORK_PRELOAD": f"broken_{name}"}
    warm.same(["-c", "print('runs'); raise SystemExit(5)"], env=env, warm=None)
    warm.same(["-c", "print('runs'); raise SystemExit(5)"], env=env)
    warm.until(lambda: STANDIN or f"broken_{name}" in json.dumps(warm.status()))
    warm.until(lambda: STANDIN or f"broken_{name}" in warm.log())
    assert STANDIN or f"broken_{name}" in warm.ctl("status").out.decode()


def test_why_it_is_without_its_preload(warm):
    """WARMFORK_DEBUG=why names the program's zygote, and what is the matter with a more suitable one."""
    def why():
        return warm.run(["-c", "pass"], env={"WARMFORK_PRELOAD": "wave", "WARMFORK_DEBUG": "why"}).err.decode()

    warm.ready()
    found = r"warmpy: warm: \w+\.0, process \d+"
    assert STANDIN or re.fullmatch(found + r"; without the preload: connect .*\.0: .*\n", first := why()), first
    warm.until(lambda: STANDIN or re.fullmatch(found + r"\n", why()))


def test_preload_that_fails_among_others(warm):
    with_library(warm, broken_one="raise ValueError('broken')\n")
    env = {"WARMFORK_PRELOAD": "json,broken_one,decimal"}
    warm.same(["-c", "import json, decimal; print(json.dumps([1]))"], env=env)


def test_preload_that_never_ends(warm):
    """It must not hold anybody up, and `warmctl stop` ends it."""
    with_library(warm, endless="while True: pass\n")
    env = {"WARMFORK_PRELOAD": "endless"}
    for _ in range(3):
        assert warm.run(["-c", "print('runs')"], env=env).out == b"runs\n"
    warm.until_warm(lambda: warm.run(["-c", "print('runs')"], env=env))
    assert STANDIN or warm.status()


IMPURE = {
    "stdout": "print('said at import')\n",
    "stdout_unflushed": "import sys; sys.stdout.write('said without end')\n",
    "stderr": "import sys; sys.stderr.write('said at import\\n')\n",
    "raw_stdout": "import os; os.write(1, b'raw\\n')\n",
    "child_output": "import subprocess; subprocess.run(['echo', 'from a child'])\n",
    "thread": "import threading, time\nticks = []\ndef run():\n    while True:\n        ticks.append(1); time.sleep(.001)\n"
              "threading.Thread(target=run, daemon=True).start()\n",
    "non_daemon_thread": "import threading\nevent = threading.Event()\nthread = threading.Thread(target=event.wait)\n"
                         "thread.start()\nimport atexit\nthreading._register_atexit(event.set)\n",
    "argv": "import sys; value = sys.argv[:]\n",
    "orig_argv": "import sys; value = sys.orig_argv[-1]\n",
    "main": "import sys; value = hasattr(sys.modules['__main__'], '__file__')\n",
    "stdin": "import sys; value = sys.stdin.readline()\n",
    "atexit": "import atexit; atexit.register(print, 'registered at import')\n",
    "signal": "import signal; signal.signal(10, lambda *a: print('handler'))\nvalue = 1\n",
    "ignore_signal": "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n",
    "alarm": "import signal; signal.setitimer(0, 100)\n",
    "cwd": "import os; value = os.getcwd()\n",
    "chdir": "import os; os.chdir('/usr')\n",
    "umask": "import os; os.umask(0o51)\n",
    "environ": "import os; os.environ['SET_BY_IMPORT'] = '1'; value = os.environ.get('PATH')\n",
    "putenv": "import os; os.putenv('PUT_BY_IMPORT', '1')\n",
    "fd": "import os; fd = os.open('/dev/null', 0); value = fd\n",
    "file": "file = open('/dev/null'); value = file.fileno()\n",
    "socket": "import socket; pair = socket.socketpair()\n",
    "child": "import subprocess; child = subprocess.Popen(['sleep', '0.2'])\nvalue = child.poll()\n",
    "sys_path": "import sys; sys.path.append('/added')\n",
    "hooks": "import sys; sys.excepthook = lambda *a: print('hook', a[0])\n",
    "trace": "import sys; sys.setrecursionlimit(777); sys.setswitchinterval(0.5)\n",
    "warnings": "import warnings; warnings.simplefilter('error')\n",
    "warns": "import warnings; warnings.warn('shown at import')\n",
    "replaces_stdout": "import sys\nclass W:\n    def write(self, s): return sys.__stdout__.write(s.upper())\n"
                       "    def flush(self): sys.__stdout__.flush()\nsys.stdout = W()\n",
    "keeps_stdout": "import sys, logging\nout = sys.stdout\nlog = logging.StreamHandler(); value = out is sys.stdout\n",
    "random": "import random; random.seed(3); value = random.random()\n",
    "nice": "import os; value = os.nice(3)\n",
    "rlimit": "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (99, resource.getrlimit(7)[1]))\n",
    "pid": "import os, sys; value = os.getpid() == int(open('/proc/self/stat').read().split()[0])\nkept = os.getpid()\n",
    "isatty": "import sys; value = (sys.stdin.isatty(), sys.stdout.isatty(), sys.stdout.encoding)\n",
    "gc": "import gc; gc.disable(); gc.set_threshold(5, 6, 7)\n",
    "codec": "import codecs; codecs.register(lambda name: None)\n",
    "locale": "import locale; locale.setlocale(locale.LC_ALL, 'C.UTF-8'); value = locale.localeconv()['decimal_point']\n",
    "multiprocessing": "import multiprocessing; value = multiprocessing.current_process().name\n",
    "asyncio": "import asyncio; loop = asyncio.new_event_loop(); value = loop.is_running()\n",
    "faulthandler": "import faulthandler, sys; faulthandler.enable()\n",
    "writes_a_file": "import os\nwith open(os.path.join(os.environ['HOME'], 'count'), 'a') as f: f.write('x')\n",
}
AFTER = """
import sys, os, signal, atexit, gc, warnings, threading, impure_mod, resource
print(getattr(impure_mod, 'value', None), sys.argv, os.getcwd(), sys.path[-1], os.environ.get('SET_BY_IMPORT'))
print(signal.getsignal(signal.SIGINT), signal.getitimer(0)[1], gc.isenabled(), gc.get_threshold())
print(len(warnings.filters), sys.getrecursionlimit(), sys.getswitchinterval(), os.nice(0), sys.stdout is sys.__stdout__)
print(resource.getrlimit(resource.RLIMIT_NOFILE), sorted(t.name for t in threading.enumerate()))
mask = os.umask(0); print(oct(mask)); os.umask(mask)
print(os.system('exit ${PUT_BY_IMPORT-5}'), sorted(map(int, os.listdir('/proc/self/fd')))[3:-1])
if hasattr(impure_mod, 'ticks'):
    import time
    n = len(impure_mod.ticks); time.sleep(.1); print(len(impure_mod.ticks) > n)
if hasattr(impure_mod, 'kept'): print(impure_mod.kept == os.getpid())
print(sys.stdin.read())
if len(sys.argv) > 1: raise ValueError
"""


@pytest.mark.parametrize("name", IMPURE)
def test_preload_with_effects(warm, name):
    """Importing does more than define names: the program sees every effect, once, and as its own."""
    with_library(warm, impure_mod=IMPURE[name])
    env = {"WARMFORK_PRELOAD": "impure_mod"}
    how = {"env": env, "input": b"line one\nline two\n"}
    warm.same(["-c", AFTER], warm=None, **how)
    warm.same(["-c", AFTER], **how)
    warm.same(["-c", AFTER, "raise"], warm=None, **how)
    warm.until(lambda: STANDIN or not any(z["state"] in ("starting", "warming") for z in warm.status()["zygotes"]))
    warm.same(["-c", AFTER, "arg"], warm=None, **how)


def test_effects_without_the_import(warm):
    """A program that does not import the preloaded module sees nothing of it."""
    with_library(warm, impure_mod=IMPURE["atexit"] + IMPURE["signal"] + IMPURE["chdir"] + IMPURE["umask"] + IMPURE["stdout"])
    look = "import os, signal; print(os.getcwd(), signal.getsignal(10), oct(os.umask(0)))"
    for _ in range(2):
        warm.same(["-c", look], env={"WARMFORK_PRELOAD": "impure_mod"})


def test_preload_is_not_changed_by_programs(warm):
    with_library(warm, shared_mod="names = []\n")
    env = {"WARMFORK_PRELOAD": "shared_mod"}
    is_preloaded(warm, "shared_mod", env=env)
    for _ in range(5):
        warm.same(["-c", "import shared_mod; shared_mod.names.append(1); print(shared_mod.names)"], env=env)


def test_preload_of_the_script_itself(warm):
    """Run as a script, a module is executed anew as __main__."""
    path = with_library(warm, both="print('executed', __name__)\n")
    warm.same([f"{path}/both.py"], env={"WARMFORK_PRELOAD": "both"}, warm=None)
    warm.same(["-m", "both"], env={"WARMFORK_PRELOAD": "both"}, warm=None)
    warm.same(["-c", "import both"], env={"WARMFORK_PRELOAD": "both"}, warm=None)


def test_module_run_with_its_package_preloaded(warm):
    """python warns when -m runs a module that is already imported; a preload must not cause that."""
    warm.same(["-m", "json.tool"], input=b"{}", env={"WARMFORK_PRELOAD": "json.tool"}, warm=None)
    warm.same(["-m", "json.tool"], input=b"{}", env={"WARMFORK_PRELOAD": "json"})


def test_standbys_are_cheap_and_many_runs_are_served(warm):
    env = {"WARMFORK_PRELOAD": "json,decimal"}
    is_preloaded(warm, "decimal", env=env)
    warm_runs = sum(warm.run(["-c", "import decimal"], env=env).warm for _ in range(30))
    assert warm_runs == 30 or STANDIN
    assert procs.belonging_to(warm.dir) or STANDIN


@pytest.mark.parametrize("text", ["print('said at import')", "import sys; sys.stdin.readline()"])
def test_impure_among_others(warm, text):
    """What one import did is not held against the others."""
    with_library(warm, alpha="", impure=text + "\n", omega="")
    warm.environment["WARMFORK_PRELOAD"] = "alpha,impure,omega"
    is_preloaded(warm, "alpha")
    is_preloaded(warm, "omega")
    notes = [note for zygote in warm.status()["zygotes"] for note in zygote["notes"]]
    assert STANDIN or [note.split(":")[0] for note in notes] == ["preload impure"]


@pytest.mark.parametrize("argument", ["package.tool", "package"])
def test_module_to_be_run_is_preloaded(warm, argument):
    """runpy warns of a module that is there before it runs: python's is not."""
    path = with_library(warm, package_other="", probe="import sys; sys.exit('package_other' not in sys.modules)\n")
    os.mkdir(f"{path}/package")
    write(f"{path}/package/__init__.py", "")
    for name in "tool", "__main__":
        write(f"{path}/package/{name}.py", "if __name__ == '__main__':\n    print(__spec__.name)\n")
    warm.environment["WARMFORK_PRELOAD"] = "package_other,package.tool,package.__main__"

    def probe():
        result = warm.run(["-m", "probe"])
        result.warm = result.warm and result.status == 0
        return result

    warm.until_warm(probe)
    warm.same(["-m", argument])


def test_directory_noted_by_rich(warm):
    """rich, and the one in pip, note the directory when they are imported; it is that of each program."""
    path = with_library(warm, **{"rich": "import os\ntry:\n    _IMPORT_CWD = os.path.abspath(os.getcwd())\nexcept OSError:\n"
                                         "    _IMPORT_CWD = ''\nNAME = 'rich'\n",
                                 "not_rich": "import os\n_IMPORT_CWD = os.getcwd()\n"})
    warm.environment["WARMFORK_PRELOAD"] = "rich,not_rich"
    is_preloaded(warm, "rich")
    program = ["-c", "import rich, not_rich; print(rich._IMPORT_CWD, not_rich._IMPORT_CWD)"]
    warm.same(program)
    warm.same(program, cwd=path)
    warm.same(program, cwd="/")
    bound = {z["preload"]: z["directory"] for z in warm.status()["zygotes"]}
    assert STANDIN or bound["rich,not_rich"] == warm.work, "not_rich was imported for one directory"
    warm.environment["WARMFORK_PRELOAD"] = "rich"
    is_preloaded(warm, "rich")
    warm.same(program, cwd="/")
    bound = {z["preload"]: z["directory"] for z in warm.status()["zygotes"]}
    assert STANDIN or bound["rich"] == "", "rich serves everywhere"
    gone = f"{warm.work}/gone"

    def vanish():
        os.makedirs(gone, exist_ok=True)
        os.chdir(gone)
        os.rmdir(gone)

    warm.same(["-c", "import rich; print(repr(rich._IMPORT_CWD))"], before=vanish)


@pytest.mark.parametrize("text", [
    "def main(args=sys.argv): return args", "main = sys.argv.pop", "kept = [sys.orig_argv]", "import __main__ as kept",
])
def test_what_only_a_program_has_noted(warm, text):
    """As pygmentize does with its arguments: what was noted would not be the program's."""
    with_library(warm, noted=f"import sys\n{text}\ndef show(): return main() if 'main' in globals() else kept\n")
    warm.environment["WARMFORK_PRELOAD"] = "noted,json"
    is_preloaded(warm, "json")
    warm.same(["-c", "import noted; print(noted.show())", "a", "b"])
    assert STANDIN or "preload noted" in json.dumps(warm.status())


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_caches_have_the_modes_of_their_user(warm, mask):
    """What a zygote imports is compiled and kept as if the caller had imported it."""
    lib = f"{warm.work}/lib"
    os.mkdir(lib)
    write(f"{lib}/sitecustomize.py", "")
    write(f"{lib}/preloaded.py", "")
    env = {"PYTHONPATH": lib, "WARMFORK_PRELOAD": "preloaded"}
    made = warm.ctl("warm", env=env, before=lambda: os.umask(mask))
    assert STANDIN or made.status == 0, made
    modes = {name.split(".")[0]: os.stat(f"{lib}/__pycache__/{name}").st_mode & 0o777 for name in os.listdir(f"{lib}/__pycache__")}
    assert STANDIN or modes == {"sitecustomize": 0o666 & ~mask, "preloaded": 0o666 & ~mask}
    assert STANDIN or os.stat(f"{lib}/__pycache__").st_mode & 0o777 == 0o777 & ~mask


def test_named_like_a_directory_of_the_root(warm):
    """A zygote lives in "/", where there is a `lib` too; that is no program's directory."""
    path = with_library(warm, etc="value = 5\n")
    warm.environment["WARMFORK_PRELOAD"] = "etc"
    is_preloaded(warm, "etc")
    warm.same(["-c", "import etc; print(etc.value, etc.__file__)"])
    assert os.path.isdir("/etc") and path.startswith(warm.work)
