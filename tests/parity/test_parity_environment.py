"""What comes from the caller: environment, locale, time zone, limits, masks, directory, descriptors, standard streams."""

import os
import resource
import signal

from parity import Case, check

TEXT = "import sys, locale\nprint(sys.stdout.encoding, sys.stdout.errors, sys.stdin.encoding, sys.stderr.encoding, sys.stderr.errors)\n" \
       "print(sys.getfilesystemencoding(), sys.getfilesystemencodeerrors(), sys.flags.utf8_mode, locale.getpreferredencoding())\n" \
       "print(locale.setlocale(locale.LC_CTYPE), locale.setlocale(locale.LC_NUMERIC), locale.getlocale())\n" \
       "print(ascii(sys.argv[1:]), ascii(open('name', 'w').encoding))\nimport os\nprint(sorted((k, v) for k, v in os.environ.items() if k[:2] in ('LC', 'LA')))\n"
LOCALES = {
    "C": {"LANG": "C"}, "POSIX": {"LANG": None, "LC_ALL": "POSIX"}, "C.UTF-8": {"LC_ALL": "C.UTF-8"}, "none": {"LANG": None},
    "missing": {"LANG": "xx_YY.UTF-8"}, "de": {"LANG": "de_DE.UTF-8"}, "latin": {"LC_ALL": "en_US.ISO-8859-1"}, "ctype": {"LC_CTYPE": "C"},
    "all-over-lang": {"LC_ALL": "C", "LANG": "C.UTF-8"}, "empty": {"LC_ALL": "", "LANG": ""}, "no-coercion": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"},
    "utf8-mode": {"LC_ALL": "C", "PYTHONUTF8": "1"}, "ioencoding": {"LC_ALL": "C", "PYTHONIOENCODING": "utf-16"}, "messages": {"LC_MESSAGES": "C", "LANGUAGE": "de:fr"},
}
CLOCK = "import time, datetime\nprint(time.tzname, time.timezone, time.altzone, time.daylight)\nprint(time.localtime(86400 * 180), datetime.datetime.fromtimestamp(0))\n" \
        "time.tzset()\nprint(time.strftime('%Z %z', time.localtime(0)))"
ZONES = {"none": None, "UTC": "UTC", "Tokyo": "Asia/Tokyo", "New_York": "America/New_York", "rule": "EST5EDT,M3.2.0,M11.1.0", "wrong": "No/Such", "empty": "",
         "colon": ":Europe/Berlin", "offset": "XYZ-3:30"}
VARIABLES = "import os\nfor k in sorted(os.environ):\n    if 'WARM' not in k: print(k, ascii(os.environ[k]))\nprint(os.getenv('NOPE'), os.environb.get(b'ODD'))\n" \
            "import subprocess\nsubprocess.run('echo \"$ADDED|$CHANGED|$ODD\"', shell=True)"
ENVIRONMENTS = {
    "added": {"ADDED": "1"}, "changed": {"PATH": "/bin:/usr/bin"}, "removed": {"PATH": None}, "unicode": {"ADDED": "d\xe9j\xe0 \u65e5\u672c"}, "undecodable": {"ODD": "\udcff\udc80"},
    "empty-value": {"ADDED": ""}, "newline": {"ADDED": "a\nb"}, "equals": {"ADDED": "a=b=c"}, "long": {"ADDED": "x" * 100000}, "odd-name": {"a.b-c": "1", "1x": "2"},
    "many": {f"V{i}": str(i) for i in range(400)}, "columns": {"COLUMNS": "40", "LINES": "10"}, "term": {"TERM": "dumb", "NO_COLOR": "1"}, "home": {"HOME": "/tmp"},
    "no-home": {"HOME": None}, "tmpdir": {"TMPDIR": "{dir}"}, "malloc": {"MALLOC_PERTURB_": "85"}, "editor": {"EDITOR": "ed", "PAGER": "cat"}, "color": {"FORCE_COLOR": "1"},
    "ld-library-path": {"LD_LIBRARY_PATH": "/usr/lib"}, "omp": {"OMP_NUM_THREADS": "1"}, "proxy": {"http_proxy": "http://proxy:1", "no_proxy": "localhost"},
}
READS = {
    "getenv-c": ("import ctypes\nc = ctypes.CDLL(None)\nc.getenv.restype = ctypes.c_char_p\nprint(c.getenv(b'ADDED'))", {"ADDED": "from C"}),
    "expanduser": ("import os\nprint(os.path.expanduser('~/x'), os.path.expandvars('$ADDED'))", {"HOME": "/tmp/h", "ADDED": "v"}),
    "tempfile": ("import tempfile\nprint(tempfile.gettempdir())", {"TMPDIR": "{dir}"}),
    "terminal-size": ("import shutil\nprint(shutil.get_terminal_size())", {"COLUMNS": "33", "LINES": "7"}),
    "argparse-width": ("import argparse\np = argparse.ArgumentParser(prog='p')\np.add_argument('--long-option-name', help='word ' * 30)\np.print_help()", {"COLUMNS": "50"}),
    "which": ("import shutil\nprint(shutil.which('tool'))", {"PATH": "/bin:{dir}"}),
    "proxies": ("import urllib.request\nprint(urllib.request.getproxies())", {"http_proxy": "http://p:1"}),
    "changes-passed-on": ("import os, subprocess\nos.environ['NEW'] = 'n'\ndel os.environ['ADDED']\nsubprocess.run('echo $NEW$ADDED', shell=True)", {"ADDED": "gone"}),
    "putenv": ("import os, subprocess\nos.putenv('PUT', 'p')\nprint('PUT' in os.environ, flush=True)\nsubprocess.run('echo $PUT', shell=True)", {}),
    "clear": ("import os, subprocess\nos.environ.clear()\nprint(dict(os.environ), flush=True)\nsubprocess.run(['/usr/bin/env'])", {"ADDED": "gone"}),
    "proc-environ": ("print(b'ADDED=shown' in open('/proc/self/environ', 'rb').read().split(b'\\0'))", {"ADDED": "shown"}),
    "execve": ("import os\nos.execve('/usr/bin/env', ['env'], {'ONLY': '1'})", {"ADDED": "gone"}),
    "order": ("import os\nprint([k for k in os.environ if k in ('ZZ', 'AA', 'MM')])", {"ZZ": "1", "AA": "2", "MM": "3"}),
    "debug-assert": ("import logging, os\nlogging.basicConfig(level=os.environ.get('LEVEL', 'INFO'))\nlogging.debug('d')\nlogging.info('i')", {"LEVEL": "DEBUG"}),
    "source-date-epoch": ("import py_compile\npy_compile.compile('main.py', 'o.pyc')\nprint(open('o.pyc', 'rb').read(8)[4:])", {"SOURCE_DATE_EPOCH": "1"}),
}


def limit(name, soft, hard=None):
    which = getattr(resource, "RLIMIT_" + name)

    def lower():
        top = resource.getrlimit(which)[1] if hard is None else hard
        resource.setrlimit(which, (soft, top))

    return lower


def inherit(path, flags, number):
    """Leaves the file open under that number."""
    os.dup2(os.open(path, flags), number)
    os.set_inheritable(number, True)  # also when it was opened there


SHOW_LIMITS = "import resource\nprint([resource.getrlimit(i) for i in range(16)])"
LIMITS = [("CPU", 50, None), ("FSIZE", 1 << 20, None), ("STACK", 4 << 20, None), ("STACK", 64 << 20, None), ("STACK", 1 << 20, 1 << 20), ("CORE", 0, 0), ("NPROC", 5000, None),
          ("NOFILE", 100, None), ("NOFILE", 24, 24), ("MEMLOCK", 4096, None), ("SIGPENDING", 100, None), ("MSGQUEUE", 1000, None), ("RSS", 1 << 32, None),
          ("DATA", 1 << 31, None), ("AS", 1 << 32, None)]
DEEP = "import sys\nsys.setrecursionlimit(10**7)\nprint('start', flush=True)\n"
RECURSION = {
    "default": "def f(n):\n    try: return f(n + 1)\n    except RecursionError: return n\nprint(f(0))",
    "limit-150": "import sys\nsys.setrecursionlimit(150)\ndef f(n):\n    try: return f(n + 1)\n    except RecursionError: return n\nprint(f(0))",
    "limit-5000": "import sys\nsys.setrecursionlimit(5000)\ndef f(n):\n    try: return f(n + 1)\n    except RecursionError: return n\nprint(f(0))",
    "limit-too-low": "import sys\ndef f(n): return f(n - 1) if n else sys.setrecursionlimit(10)\ntry: f(20)\nexcept RecursionError as e: print(e)",
    "message": "def f(): f()\ntry: f()\nexcept RecursionError as e: print(e)",
    "repr": "l = []\nfor i in range(100000): l = [l]\ntry: repr(l)\nexcept RecursionError as e: print(e)",
    "repr-self": "class A:\n    def __repr__(s): return repr(s)\ntry: repr(A())\nexcept RecursionError as e: print(e)",
    "json": "import json\nx = []\nfor i in range(100000): x = [x]\ntry: json.dumps(x)\nexcept RecursionError as e: print(e)",
    "pickle": "import pickle\nx = []\nfor i in range(100000): x = [x]\ntry: pickle.dumps(x)\nexcept RecursionError as e: print(e)",
    "compare": "a = []; a.append(a); b = []; b.append(b)\ntry: a == b\nexcept RecursionError as e: print(e)",
    "parser": "try: eval('-' * 100000 + '1')\nexcept (RecursionError, MemoryError, SyntaxError) as e: print(type(e))",
    "parser-nested": "try: eval('[' * 150 + ']' * 150)\nexcept (RecursionError, MemoryError, SyntaxError) as e: print(e)",
    "regex": "import re\nprint(len(re.match('(?:a|b)*', 'ab' * 50000).group()))",
    "getattr": "class A:\n    def __getattr__(s, n): return getattr(s, n)\ntry: A().x\nexcept RecursionError as e: print(e)",
    "isinstance": "x = int\nfor i in range(100000): x = (x,)\ntry: isinstance('', x)\nexcept RecursionError as e: print(e)",
    "deepcopy": "import copy\nx = []\nfor i in range(100000): x = [x]\ntry: copy.deepcopy(x)\nexcept RecursionError as e: print(e)",
    "generator": "def g(n):\n    yield n\n    yield from g(n + 1)\ntry:\n    for x in g(0): pass\nexcept RecursionError: print(x)",
    "in-thread": "import threading\ndef f(n):\n    try: return f(n + 1)\n    except RecursionError: return n\nt = threading.Thread(target=lambda: print(f(0)))\nt.start(); t.join()",
    "lru_cache": "import functools, sys\nsys.setrecursionlimit(10**6)\n@functools.lru_cache(None)\ndef f(n): return n and f(n - 1)\ntry: print(f(2000))\nexcept RecursionError as e: print(e)",
    "deep-python": "import sys\nsys.setrecursionlimit(10**6)\ndef f(n): return n and f(n - 1) + 1\nprint(f(8000))",
}
STACK = "import ctypes, resource\nc = ctypes.CDLL(None)\nhere = ctypes.create_string_buffer(4)\n" \
        "[low, high] = [int(x, 16) for x in next(l for l in open('/proc/self/maps') if '[stack]' in l).split()[0].split('-')]\n" \
        "print(resource.getrlimit(resource.RLIMIT_STACK)[0], high > low)\n"
EAT = "import sys\nsys.setrecursionlimit(10**6)\nclass A:\n    def __init__(s, n): s.n = n\n    def __eq__(s, o): return s.n == 0 or [A(s.n - 1)] == [o]\nprint('start', flush=True)\n"

STDIN = {
    "read": ("import sys\nprint(repr(sys.stdin.read()))", b"a\nb\n"), "input": ("print(input() + input())", b"one\ntwo\n"), "input-eof": ("input()", b""), "prompt": ("print(input('? '))", b"x\n"),
    "lines": ("import sys\nfor l in sys.stdin: print(repr(l))", b"a\r\nb\rc\n"), "binary": ("import sys\nprint(sys.stdin.buffer.read())", bytes(range(256))),
    "invalid-utf8": ("import sys\nprint(ascii(sys.stdin.read()))", b"\xff\xfe\n"), "unread": ("print('not read')", b"x" * 200000), "part": ("import sys\nprint(sys.stdin.readline())", b"first\nrest\n" * 1000),
    "os-read": ("import os\nprint(os.read(0, 3))", b"abcdef"), "child-reads-rest": ("import os, subprocess\nprint(os.read(0, 2), flush=True)\nsubprocess.run(['cat'])", b"abcdef\n"),
    "child-after-readline": ("import sys, subprocess\nprint(sys.stdin.readline(), flush=True)\nsubprocess.run(['cat'])", b"one\ntwo\n"), "large": ("import sys\nprint(len(sys.stdin.read()))", b"y" * 500000),
    "exec-passes-on": ("import os\nos.execvp('cat', ['cat'])", b"through\n"), "null": ("import sys\nprint(repr(sys.stdin.read()))", None), "nul-bytes": ("import sys\nprint(repr(sys.stdin.read()))", b"a\0b"),
    "fileinput": ("import fileinput\nfor l in fileinput.input(): print(fileinput.lineno(), l, end='')", b"a\nb\n"), "seekable": ("import sys\nprint(sys.stdin.seekable(), sys.stdin.readable(), sys.stdin.writable())", b""),
}
PROGRAMS_ON_STDIN = {
    "plain": "print(__name__, __file__ if '__file__' in globals() else None)\n", "error": "x = 1\n\n1/0\n", "reads-itself": "import sys\nprint(repr(sys.stdin.read()))\nthis is not python\n",
    "syntax": "print(1)\nif x\n", "exit": "raise SystemExit(3)\n", "no-newline": "print('x')", "blank": "\n\n", "coding": b"# coding: latin-1\nprint(ascii('\xe9'))\n", "function": "def f():\n    1/0\nf()\n",
}
FDS = {
    "file": ("import os\nprint(os.read(5, 9), os.fstat(5).st_size)", lambda: inherit("/etc/hostname", os.O_RDONLY, 5)),
    "high": ("import os\nos.write(900, b'x')\nprint(os.get_inheritable(900))", lambda: inherit("out900", os.O_WRONLY | os.O_CREAT, 900)),
    "inheritable": ("import os\nprint(os.get_inheritable(5), os.get_inheritable(0), os.get_inheritable(1))", lambda: inherit("/dev/null", os.O_RDONLY, 5)),
    "child": ("import subprocess\nsubprocess.run('cat <&5', shell=True, pass_fds=[5])", lambda: inherit("main.py", os.O_RDONLY, 5)),
    "offset": ("import os\nprint(os.read(5, 3), os.lseek(5, 0, 1))", lambda: (inherit("main.py", os.O_RDONLY, 5), os.read(5, 4))),
    "listed": ("import os\nprint([f for f in map(int, os.listdir('/proc/self/fd')) if f != 3])", lambda: inherit("/dev/null", os.O_RDONLY, 8)),
    "next-number": ("import os\nprint(os.open('/dev/null', 0), os.open('/dev/null', 0), os.pipe())", None),
    "all": ("import os\nprint(sorted(f for f in map(int, os.listdir('/proc/self/fd')) if f != 3))", None),
    "every-number": ("import fcntl\ndef open_(n):\n    try: return fcntl.fcntl(n, fcntl.F_GETFD) >= 0\n    except OSError: return False\nprint([n for n in range(5000) if open_(n)])", None),
    "links": ("import os\nprint(len(os.listdir('/proc/self/fdinfo')), len(list(os.scandir('/dev/fd'))))", None),
    "in-a-child": ("import os\nif os.fork() == 0:\n    print(sorted(map(int, os.listdir('/proc/self/fd'))), flush=True)\n    os._exit(0)\nos.wait()", None),
    "after-exec": ("import os\nos.execvp('ls', ['ls', '/proc/self/fd'])", None),
    "sockets": ("import os\nprint([n for n in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + n) and os.readlink('/proc/self/fd/' + n).startswith('socket')])", None),
    "lowered": ("import os, resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (4, 4))\nprint(os.open('/dev/null', 0))\ntry: os.open('/dev/null', 0)\nexcept OSError as e: print(e)", None),
    "onto-high-numbers": ("import os\nfor n in range(690, 800): os.dup2(1, n)\nos.write(773, b'written')\nos.closerange(690, 800)\nprint('still')", None),
    "two-hundred-inherited": ("import os\nprint(len(os.listdir('/proc/self/fd')))", lambda: [os.dup2(0, n) for n in range(690, 890)]),
    "few": ("import os\nprint(os.open('/dev/null', 0))", limit("NOFILE", 9)), "fewest": ("import os\nprint(os.open('/dev/null', 0))", limit("NOFILE", 8)),
    "maximum": ("import os, resource\nn = resource.getrlimit(resource.RLIMIT_NOFILE)[0]\nfds = []\ntry:\n    while True: fds.append(os.open('/dev/null', 0))\nexcept OSError as e: print(e, n - len(fds), fds[-1] - n)",
                limit("NOFILE", 64)),
    "rdwr-stdout": ("import os, fcntl\nprint(fcntl.fcntl(1, fcntl.F_GETFL) & 3, fcntl.fcntl(0, fcntl.F_GETFL) & 3, fcntl.fcntl(0, fcntl.F_GETFD))", None),
    "nonblocking": ("import os\nprint(os.get_blocking(0), os.get_blocking(1))", None),
}
MASKS = {
    "umask-077": ("import os\nopen('f', 'w')\nos.mkdir('d')\nprint(oct(os.umask(0)))", lambda: os.umask(0o077)),
    "umask-0": ("open('f', 'w')\nimport os\nos.mkdir('d')", lambda: os.umask(0)),
    "ignored-hup": ("import signal, os\nprint(signal.getsignal(1))\nos.kill(os.getpid(), 1)\nprint('alive')", lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)),
    "ignored-int": ("import signal, os\nprint(signal.getsignal(2))\nos.kill(os.getpid(), 2)\nprint('alive')", lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)),
    "ignored-term-in-child": ("import subprocess\nprint(subprocess.run('kill -15 $$; echo alive', shell=True).returncode)", lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN)),
    "ignored-pipe-child": ("import subprocess\nprint(subprocess.run('grep SigIgn /proc/self/status', shell=True, restore_signals=False).returncode)", None),
    "ignored-chld": ("import os, signal\nprint(signal.getsignal(17))\npid = os.fork()\nif not pid: os._exit(3)\ntry: print(os.waitpid(pid, 0)[1])\nexcept ChildProcessError as e: print(e)",
                     lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN)),
    "blocked-usr1": ("import signal, os\nprint(signal.pthread_sigmask(0, []))\nos.kill(os.getpid(), 10)\nprint(signal.sigpending())", lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [10])),
    "blocked-int": ("import signal\nprint(signal.pthread_sigmask(0, []))", lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [2, 15])),
    "nice": ("import os\nprint(os.nice(0))", lambda: os.nice(3)),
    "affinity": ("import os\nprint(os.sched_getaffinity(0), len(os.sched_getaffinity(0)))", lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})),
    "batch": ("import os\nprint(os.sched_getscheduler(0))", lambda: os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))),
    "idle": ("import os\nprint(os.sched_getscheduler(0))", lambda: os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))),
    "directory": ("import os\nprint(os.getcwd(), os.listdir('.'))", lambda: os.chdir("/proc/sys/kernel/random") or os.chdir("/usr/share")),
}

CASES = [
    *(Case(f"locale-{name}", TEXT, args=("d\xe9j\xe0",), env=env) for name, env in LOCALES.items()),
    *(Case(f"locale-{name}-output", "print(ascii('x'), 'd\\xe9j\\xe0 \\u65e5')", env=LOCALES[name]) for name in ("C", "POSIX", "no-coercion", "utf8-mode", "latin")),
    *(Case(f"locale-{name}-argument", "import sys\nprint(ascii(sys.argv))", args=("\udcff\udce9", "\u65e5"), env=LOCALES[name]) for name in ("C", "C.UTF-8", "no-coercion")),
    *(Case(f"zone-{name}", CLOCK, env={"TZ": zone}) for name, zone in ZONES.items()),
    *(Case(f"environment-{name}", VARIABLES, env=env, preload=True) for name, env in ENVIRONMENTS.items()),
    *(Case(f"reads-{name}", code, env=env, preload=True, files={"tool": "#!/bin/sh\n"}) for name, (code, env) in READS.items()),
    *(Case(f"limit-{name}-{soft}", SHOW_LIMITS, before=limit(name, soft, hard), known="cold" if name in ("AS", "DATA") else "")
      for name, soft, hard in LIMITS),
    *(Case(f"recursion-{name}", code) for name, code in RECURSION.items()),
    *(Case(f"recursion-{name}-c", RECURSION[name], way="-c") for name in ("default", "limit-150", "repr-self", "generator")),
    *(Case(f"recursion-{name}-m", RECURSION[name], way="-m") for name in ("default", "limit-150")),
    Case("stack-limit-8M", STACK, before=limit("STACK", 8 << 20)),
    Case("stack-limit-32M", STACK, before=limit("STACK", 32 << 20)),
    Case("stack-deep-in-64M", EAT + "print(A(20000) == A(-1))", before=limit("STACK", 64 << 20)),
    Case("stack-overflow-in-1M", EAT + "A(60000) == A(-1)", before=limit("STACK", 1 << 20)),
    Case("stack-overflow-in-8M", EAT + "A(600000) == A(-1)", before=limit("STACK", 8 << 20)),
    Case("stack-threads", "import threading\nt = threading.Thread(target=lambda: print('ran'))\nt.start(); t.join()", before=limit("STACK", 2 << 20)),
    Case("file-size-limit", "try: open('big', 'wb').write(b'x' * 100000)\nexcept OSError as e: print(e)", before=limit("FSIZE", 1000)),
    Case("open-files-limit", "x = []\nfor i in range(100): x.append(open('/dev/null'))", before=limit("NOFILE", 30)),
    *(Case(f"stdin-{name}", code, input=data) for name, (code, data) in STDIN.items()),
    *(Case(f"program-on-stdin-{name}", code, way="-", args=("arg",)) for name, code in PROGRAMS_ON_STDIN.items()),
    *(Case(f"descriptors-{name}", code, before=before) for name, (code, before) in FDS.items()),
    *(Case(f"from-caller-{name}", code, before=before) for name, (code, before) in MASKS.items()),
]


def test_same_environment(user, case, record):
    record(check(user, case))
