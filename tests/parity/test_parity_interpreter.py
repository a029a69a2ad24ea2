"""What a program sees of its interpreter: options, variables, sys, the path, start-up hooks, and ways to be run."""

import gzip
import io
import os
import zipfile

from parity import Case, check

SHOW = "import sys\nprint(sys.flags)\nprint(sys._xoptions, sys.warnoptions)\nprint(sys.orig_argv[1:-1] if sys.orig_argv[1:] else 0)\n"
OPTIONS = {
    "none": (), "B": ("-B",), "b": ("-b",), "bb": ("-bb",), "E": ("-E",), "I": ("-I",), "O": ("-O",), "OO": ("-OO",), "P": ("-P",),
    "q": ("-q",), "R": ("-R",), "s": ("-s",), "S": ("-S",), "u": ("-u",), "cluster": ("-BEsO",), "W-error": ("-W", "error"),
    "W-default": ("-Wdefault",), "W-ignore-dep": ("-W", "ignore::DeprecationWarning"), "W-module": ("-W", "error:::main"),
    "W-line": ("-W", "ignore::UserWarning:mod:10"), "W-two": ("-Wd", "-Wi"), "X-dev": ("-X", "dev"), "X-utf8": ("-X", "utf8"),
    "X-utf8=0": ("-X", "utf8=0"), "X-faulthandler": ("-X", "faulthandler"), "X-no_debug_ranges": ("-X", "no_debug_ranges"),
    "X-int_max_str_digits": ("-X", "int_max_str_digits=1000"), "X-frozen_modules": ("-X", "frozen_modules=off"),
    "X-warn_default_encoding": ("-X", "warn_default_encoding"), "X-pycache_prefix": ("-X", "pycache_prefix={dir}/cache"),
    "X-own": ("-X", "own=value"), "X-own-flag": ("-Xown",), "X-importtime-wrong": ("-X", "tracemalloc=0"),
    "pycs": ("--check-hash-based-pycs", "always"),
}
COLD_OPTIONS = {"X-own", "X-own-flag", "X-importtime-wrong"}
WRONG = {
    "unknown": ("-Z",), "no-argument": ("-c",), "no-module": ("-m",), "missing-module": ("-m", "no_such_module"),
    "package-without-main": ("-m", "json"), "missing-file": ("no_such_file.py",), "directory": ("sub",), "int_max_str_digits":
    ("-X", "int_max_str_digits=5", "-c", "pass"), "utf8-wrong": ("-X", "utf8=3", "-c", "pass"), "W-wrong": ("-W", "wrong", "-c", "pass"),
    "W-category": ("-W", "error::NoSuch", "-c", "pass"), "version": ("-V",), "module-in-missing-package": ("-m", "no.such"),
    "module-raises": ("-m", "raises"), "name-with-null-like": ("-m", "json.tool.x"), "dot": (".",), "relative-parent": ("../case/sub/x.py",),
    "path-with-dot": ("./sub/../sub/x.py",), "trailing-slash": ("sub/",), "not-a-zip": ("text.txt",), "hash-comment-only": ("empty.py",),
}
COLD_WRONG = {"unknown", "no-argument", "no-module", "int_max_str_digits", "utf8-wrong", "W-wrong", "W-category", "version"}
WRONG_FILES = {"sub/x.py": "import sys\nprint(sys.argv, sys.path[0], __file__)\n", "raises.py": "1/0\n", "text.txt": "not python at all\n",
               "empty.py": "# nothing\n", "__main__.py": "print('main of the directory', __file__, __package__, __spec__)\n"}

VARIABLES = {
    "DONTWRITEBYTECODE": "1", "OPTIMIZE": "1", "OPTIMIZE=2": "2", "UNBUFFERED": "1", "NOUSERSITE": "1", "SAFEPATH": "1", "UTF8": "1", "UTF8=0": "0",
    "HASHSEED": "0", "HASHSEED=42": "42", "HASHSEED=random": "random", "HASHSEED-wrong": "x", "WARNINGS": "error",
    "WARNINGS-two": "ignore::DeprecationWarning,error::UserWarning", "DEVMODE": "1", "FAULTHANDLER": "1", "IOENCODING": "latin-1",
    "IOENCODING-errors": "ascii:replace", "IOENCODING-only-errors": ":backslashreplace", "COERCECLOCALE": "0", "COERCECLOCALE=warn": "warn",
    "MALLOC": "malloc", "MALLOC=debug": "debug", "INTMAXSTRDIGITS": "700", "NODEBUGRANGES": "1", "WARNDEFAULTENCODING": "1", "PATH": "{dir}/lib",
    "PATH-missing": "/no/such/dir", "PATH-zip": "{dir}/lib/lib.zip", "PATH-relative": "lib", "PYCACHEPREFIX": "{dir}/cache", "STARTUP": "{dir}/start.py",
    "PLATLIBDIR": "lib", "EXECUTABLE": "/elsewhere", "BREAKPOINT": "0", "BREAKPOINT-function": "sys.exit", "ASYNCIODEBUG": "1",
    "THREADDEBUG": "1", "CASEOK": "1", "USERBASE": "{dir}/user", "UNKNOWN": "anything", "LEGACYWINDOWSSTDIO": "1",
}
SHOW_VARIABLE = SHOW + """
import os, warnings
print(hash('a') if os.environ.get('PYTHONHASHSEED', 'random').isdigit() else '', sys.stdout.encoding, sys.stdout.errors, sys.stderr.errors)
print(sys.dont_write_bytecode, sys.pycache_prefix, sys.getfilesystemencoding(), sys.path[1:], sys.stdout.line_buffering)
print(sorted(k for k in os.environ if k.startswith('PYTHON')), __debug__, sys.stdout.write_through, warnings.filters[:3])
warnings.warn('deprecated', DeprecationWarning)
import neighbour
print(neighbour.__cached__)
"""

FACTS = {
    "argv": "sys.argv", "orig_argv": "sys.orig_argv", "path": "sys.path", "executable": "sys.executable, sys._base_executable",
    "prefixes": "sys.prefix, sys.base_prefix, sys.exec_prefix, sys.platlibdir", "version": "sys.version, sys.hexversion, sys.implementation",
    "dir-of-sys": "sorted(dir(sys))", "main-keys": "list(vars(sys.modules['__main__']))", "spec": "__spec__", "loader": "type(__loader__)",
    "package": "__package__", "doc": "__doc__", "annotations": "globals().get('__annotations__')", "cached": "globals().get('__cached__')",
    "builtins": "__builtins__", "builtins-dict": "sorted(vars(__import__('builtins')))", "recursion": "sys.getrecursionlimit()",
    "importer-cache": "sorted(sys.path_importer_cache)", "meta-path": "sys.meta_path", "path-hooks": "len(sys.path_hooks), sys.path_hooks[0]",
    "stdin": "sys.stdin, sys.stdin.mode, sys.stdin.line_buffering, sys.stdin.isatty()",
    "stdout": "sys.stdout, sys.stdout.mode, sys.stdout.buffer, sys.stdout.buffer.raw, sys.stdout.line_buffering",
    "stderr": "sys.stderr, sys.stderr.mode, sys.stderr.errors, sys.stderr.line_buffering, sys.stderr.newlines",
    "same-streams": "[getattr(sys, n) is getattr(sys, f'__{n}__') for n in ('stdin', 'stdout', 'stderr', 'displayhook', 'excepthook')]",
    "blksize": "sys.stdout.buffer.raw._blksize, sys.stdin.buffer.raw._blksize", "seekable": "sys.stdin.seekable(), sys.stdout.seekable()",
    "closefd": "sys.stdout.buffer.raw.closefd, sys.stdin.buffer.raw.closefd, sys.stdout.fileno()", "hexversion": "sys.api_version",
    "audit": "sys.audit('x')", "tracing": "sys.gettrace(), sys.getprofile()", "float": "sys.float_info, sys.int_info, sys.hash_info.algorithm",
    "thread-info": "sys.thread_info", "abi": "sys.abiflags, sys.byteorder, sys.platform", "asyncgen": "sys.get_asyncgen_hooks()",
    "coroutine-depth": "sys.get_coroutine_origin_tracking_depth()", "dlopen": "sys.getdlopenflags()", "intern": "sys.intern('q') is 'q'",
    "frame": "sys._getframe().f_back, sys._getframe().f_code.co_filename, sys._getframe().f_lineno, sys._getframe().f_lasti >= 0",
    "stack": "__import__('traceback').format_stack()", "inspect-stack": "[f[1:4] for f in __import__('inspect').stack()]",
    "help": "exit, quit, copyright.__class__, credits.__class__, license.__class__, help",
    "site": "sys.modules['site'].ENABLE_USER_SITE, sys.modules['site'].PREFIXES, sys.modules['site'].USER_SITE",
    "sysconfig": "__import__('sysconfig').get_paths()", "platform": "__import__('platform').python_version()",
    "modules-of-main": "sys.modules['__main__'], __name__", "refcount-main": "sys.getrefcount(sys.modules['__main__'])",
    "last": "[n for n in dir(sys) if n.startswith('last_') or n.startswith('ps')]", "exc-info": "sys.exc_info()", "ignore-environment":
    "sys.flags.ignore_environment", "unraisable": "sys.unraisablehook is sys.__unraisablehook__", "allocated": "sys.getallocatedblocks() > 1000",
    "warnings-filters": "__import__('warnings').filters", "warnings-registry": "globals().get('__warningregistry__')",
    "once-registry": "__import__('warnings').onceregistry", "zoneinfo": "__import__('zoneinfo').TZPATH", "tempdir": "__import__('tempfile').tempdir",
    "random-differs": "__import__('random').random() != 0.5", "uuid": "len(str(__import__('uuid').uuid4()))", "monotonic": "__import__('time').monotonic() > 0",
    "cwd": "__import__('os').getcwd()", "umask": "__import__('os').umask(0o22)", "environ": "sorted(k for k in __import__('os').environ if 'WARM' not in k)",
    "fds": "[f for f in map(int, __import__('os').listdir('/proc/self/fd')) if f != 3]", "cpu-count": "__import__('os').cpu_count()",
    "loadavg": "len(__import__('os').getloadavg())", "ctermid": "__import__('os').ctermid()", "uname": "__import__('os').uname()",
    "getlogin-like": "__import__('getpass').getuser()", "supports": "sorted(f.__name__ for f in __import__('os').supports_fd)",
    "limits": "__import__('resource').getrlimit(3)", "int-digits": "getattr(sys, 'get_int_max_str_digits', int)()",
    "process-group": "__import__('os').getpgrp() == __import__('os').getpid()", "signals": "[__import__('signal').getsignal(i) for i in (1, 2, 3, 13, 15, 17, 25)]",
    "wakeup-fd": "__import__('signal').set_wakeup_fd(-1)", "sigmask": "__import__('signal').pthread_sigmask(0, [])", "itimer": "__import__('signal').getitimer(0)",
    "children": "__import__('multiprocessing').active_children()", "mp-main": "__import__('multiprocessing').current_process().name",
    "mp-start": "__import__('multiprocessing').get_start_method()", "comm": "open('/proc/self/comm').read()",
    "cmdline": "open('/proc/self/cmdline', 'rb').read()", "exe": "__import__('os').readlink('/proc/self/exe')", "threads": "len(__import__('os').listdir('/proc/self/task'))",
    "oom": "open('/proc/self/oom_score_adj').read()", "cgroup": "open('/proc/self/cgroup').read()", "dumpable": "open('/proc/self/coredump_filter').read()",
    "timerslack": "open('/proc/self/timerslack_ns').read()", "no-new-privs": "[l for l in open('/proc/self/status') if l[:4] in ('NoNe', 'Secc', 'SigB', 'SigI', 'SigC', 'CapE', 'Thre')]",
    "autogroup": "open('/proc/self/sched').read().count('policy')", "personality": "open('/proc/self/personality').read()", "thp": "__import__('ctypes').CDLL(None).prctl(42, 0, 0, 0, 0)",
    "dict-order": "list({'b': 1, 'a': 2})", "hash-int": "hash(12345), hash(1.5), hash(None) != 0", "sched": "__import__('os').sched_getscheduler(0), __import__('os').nice(0)",
    "parent-death": "__import__('ctypes').CDLL(None).prctl(2, __import__('ctypes').byref(__import__('ctypes').c_int()), 0, 0, 0)",
    "subreaper": "(lambda c, v: (c.prctl(37, __import__('ctypes').byref(v), 0, 0, 0), v.value))(__import__('ctypes').CDLL(None), __import__('ctypes').c_int(7))",
}


def archive(**files):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as z:
        for name, text in files.items():
            z.writestr(zipfile.ZipInfo(name.replace("__slash__", "/") + ".py"), text)
    return data.getvalue()


TELL = "import sys\nprint(__name__, __file__, __package__, __spec__ and (__spec__.name, __spec__.origin, __spec__.parent), __loader__.__class__)\n" \
       "print(sys.argv, sys.path[0], sorted(globals()))\n"
PACKAGE = {"pkg/__init__.py": "print('init', __name__)\n", "pkg/__main__.py": TELL, "pkg/mod.py": TELL + "from . import other\n",
           "pkg/other.py": "print('other', __package__)\n", "pkg/sub/__init__.py": "", "pkg/sub/deep.py": "from .. import other\n" + TELL,
           "space/inside.py": TELL, "module.py": TELL, "dir/__main__.py": TELL + "import beside\n", "dir/beside.py": "print('beside', __file__)\n",
           "app.zip": archive(__main__=TELL + "import inner\n", inner="print('inner', __file__)\n"),
           "shebang.zip": b"#!/usr/bin/env python3\n" + archive(__main__=TELL), "nomain.zip": archive(other="1"),
           "raises.zip": archive(__main__="def f():\n    1/0\nf()\n"), "data/file.txt": "data\n",
           "noext": TELL, "odd name.py": TELL, "d\xe9j\xe0.py": TELL, "crlf.py": "print(1)\r\nprint('''a\r\nb''')\r\n", "bom.py": b"\xef\xbb\xbfprint('bom')\n",
           "latin.py": b"# coding: latin-1\nprint(ascii('\xe9'))\n", "noeol.py": "print('no newline at the end')", "formfeed.py": "\fprint(1)\n",
           "tabs.py": "if 1:\n\tprint('tab')\n", "long.py": "x = '" + "y" * 70000 + "'\nprint(len(x))\n", "many.py": "x = 1\n" * 5000 + "print(x)\n"}
WAYS = {
    "script": ("module.py", "a", "-b", "--c=d"), "script-dot": ("./module.py",), "script-absolute": ("{dir}/module.py",), "script-in-dir": ("pkg/mod.py",),
    "script-up": ("pkg/../module.py",), "script-no-extension": ("noext",), "script-space": ("odd name.py",), "script-unicode": ("d\xe9j\xe0.py",),
    "module": ("-m", "module", "a", "b"), "module-glued": ("-mmodule", "a"), "package": ("-m", "pkg", "x"), "package-module": ("-m", "pkg.mod"),
    "package-deep": ("-m", "pkg.sub.deep"), "package-without-main": ("-m", "pkg.sub"), "namespace": ("-m", "space.inside"), "namespace-itself": ("-m", "space"),
    "directory": ("dir", "x"), "directory-slash": ("dir/",), "directory-absolute": ("{dir}/dir",), "directory-without-main": ("pkg/sub",), "zip": ("app.zip", "x"),
    "zip-shebang": ("shebang.zip",), "zip-without-main": ("nomain.zip",), "zip-raises": ("raises.zip",), "zip-absolute": ("{dir}/app.zip",),
    "command": ("-c", TELL.replace("__file__", "0"), "a", "-c", "b"), "command-glued": ("-cimport sys; print(sys.argv)", "x"), "command-empty": ("-c", ""),
    "command-multiline": ("-c", "def f():\n  return 3\n\nprint(f())\n"), "command-arguments-like-options": ("-c", "import sys; print(sys.argv)", "-m", "-O", "--", "-c"),
    "command-indented": ("-c", "  print(1)"), "command-null-like": ("-c", "print('\\0')"), "command-nonascii": ("-c", "print(ascii('d\xe9j\xe0'))"),
    "dash-dash": ("--", "module.py", "--"), "options-and-script": ("-I", "-B", "module.py", "-I"), "crlf": ("crlf.py",), "bom": ("bom.py",), "latin": ("latin.py",),
    "no-newline": ("noeol.py",), "formfeed": ("formfeed.py",), "tabs": ("tabs.py",), "long-line": ("long.py",), "many-lines": ("many.py",),
    "stdlib-json.tool": ("-m", "json.tool", "--indent", "1", "j.json"), "stdlib-calendar": ("-m", "calendar", "2024", "2"), "stdlib-this": ("-m", "this"),
    "stdlib-compileall": ("-m", "compileall", "-q", "pkg"), "stdlib-timeit": ("-m", "timeit", "-n1", "-r1", "-h"), "stdlib-zipapp": ("-m", "zipapp", "dir", "-o", "made.pyz"),
    "stdlib-unittest": ("-m", "unittest", "--no-such-option"), "stdlib-doctest": ("-m", "doctest", "-v", "doc.txt"), "stdlib-py_compile": ("-m", "py_compile", "module.py"),
    "stdlib-dis": ("-m", "dis", "small.py"), "stdlib-ast": ("-m", "ast", "small.py"), "stdlib-tokenize": ("-m", "tokenize", "small.py"), "stdlib-site": ("-m", "site", "--user-site"),
    "stdlib-base64": ("-m", "base64", "-t"), "stdlib-gzip": ("-m", "gzip", "-d", "packed.gz"), "stdlib-tarfile": ("-m", "tarfile", "-l", "doc.txt"),
    "stdlib-ensurepip": ("-m", "ensurepip", "--version"), "stdlib-http-help": ("-m", "http.server", "--help"), "stdlib-trace": ("-m", "trace", "--count", "--summary", "small.py"),
    "stdlib-cProfile-wrong": ("-m", "cProfile", "missing.py"), "stdlib-pdb-help": ("-m", "pdb", "--help"), "stdlib-runpy": ("-m", "runpy", "module"), "stdlib-sysconfig": ("-m", "sysconfig"),
}
WAY_FILES = {**PACKAGE, "packed.gz": gzip.compress(b"unpacked", mtime=0), "j.json": '{"b": [1, 2], "a": null}', "doc.txt": ">>> 1 + 1\n2\n>>> 1/0\nTraceback (most recent call last):\nZeroDivisionError: division by zero\n",
             "small.py": "def f(a, b=2):\n    return a + b\nf(1)\n"}

START = {
    "sitecustomize": ({"lib/sitecustomize.py": "import sys\nprint('custom', sys.argv if hasattr(sys, 'argv') else None)\nsys.custom = 1\n"}, "import sys\nprint(sys.custom)"),
    "sitecustomize-quiet": ({"lib/sitecustomize.py": "import sys\nsys.custom = [1]\n"}, "import sys\nprint(sys.custom)"),
    "sitecustomize-raises": ({"lib/sitecustomize.py": "1/0\n"}, "print('on')"),
    "sitecustomize-environment": ({"lib/sitecustomize.py": "import os, sys\nsys.custom = os.environ.get('CHOICE')\n"}, "import sys\nprint(sys.custom)"),
    "sitecustomize-changes-environment": ({"lib/sitecustomize.py": "import os\nos.environ['SET_BY_SITE'] = '1'\n"}, "import os\nprint(os.environ['SET_BY_SITE'], os.getenv('SET_BY_SITE'))"),
    "sitecustomize-atexit": ({"lib/sitecustomize.py": "import atexit\natexit.register(print, 'from site')\n"}, "import atexit\natexit.register(print, 'own')"),
    "sitecustomize-path": ({"lib/sitecustomize.py": "import sys\nsys.path.append('/appended')\n"}, "import sys\nprint(sys.path)"),
    "sitecustomize-excepthook": ({"lib/sitecustomize.py": "import sys\nsys.excepthook = lambda *a: print('site hook', a[0])\n"}, "1/0"),
    "sitecustomize-import-hook": ({"lib/sitecustomize.py": "import sys\nclass F:\n    def find_spec(s, n, p=None, t=None):\n        if n == 'magic': print('asked for', n)\nsys.meta_path.insert(0, F())\n"},
                                  "try: import magic\nexcept ImportError as e: print(e)"),
    "sitecustomize-displays": ({"lib/sitecustomize.py": "import builtins\nbuiltins.added = 5\n"}, "print(added)"),
    "sitecustomize-thread": ({"lib/sitecustomize.py": "import threading\nthreading.Thread(target=lambda: None).start()\n"}, "import threading\nprint(threading.active_count() >= 1)"),
    "sitecustomize-exits": ({"lib/sitecustomize.py": "raise SystemExit(3)\n"}, "print('never')"),
    "usercustomize": ({"user/lib/python{v}/site-packages/usercustomize.py": "import sys\nsys.custom = 'user'\n"}, "import sys\nprint(getattr(sys, 'custom', None))"),
    "usercustomize-prints": ({"user/lib/python{v}/site-packages/usercustomize.py": "print('user')\n"}, "print('program')"),
    "pth": ({"user/lib/python{v}/site-packages/a.pth": "{dir}/lib\n"}, "import sys\nprint(sys.path)\nimport found\nprint(found.__file__)"),
    "pth-import": ({"user/lib/python{v}/site-packages/a.pth": "import sys; sys.custom = 2\n"}, "import sys\nprint(getattr(sys, 'custom', None))"),
    "pth-missing-dir": ({"user/lib/python{v}/site-packages/a.pth": "/no/such/dir\n# comment\n\n"}, "import sys\nprint(sys.path)"),
    "pth-raises": ({"user/lib/python{v}/site-packages/a.pth": "import sys; 1/0\n"}, "print('on')"),
    "path-module": ({"lib/json.py": "print('not the json you know')\n"}, "import json\nprint(json.__file__)"),
    "path-order": ({"lib/found.py": "x = 'lib'\n", "found.py": "x = 'beside'\n"}, "import found\nprint(found.x)"),
}
COLD_START = {"sitecustomize", "sitecustomize-raises", "sitecustomize-exits", "usercustomize-prints", "pth-raises"}
SHADOWS = {
    "json": "import json\nprint(json.x)", "random": "import random\nprint(random.x)", "os-not": "import os\nprint(hasattr(os, 'x'))", "types": "import types\nprint(hasattr(types, 'x'))",
    "collections": "import collections\nprint(collections.x)", "decimal": "import fractions, decimal\nprint(decimal.x)", "site-not": "import site\nprint(hasattr(site, 'x'))",
    "enum": "import re", "logging": "import logging\nprint(logging.x)", "linecache": "1/0", "string": "import string\nprint(string.x)", "traceback": "1/0",
}

# What a subinterpreter is told of the program.
INNER = "try: import _interpreters as s\nexcept ImportError: import _xxsubinterpreters as s\n" \
        "i = s.create()\ns.run_string(i, 'import sys; print(sys.argv, sys.orig_argv, sys.path, flush=True)')\ns.destroy(i)\n"
INNER_FILES = {"app.zip": archive(__main__=INNER), "app/__main__.py": INNER, "sub/prog.py": INNER, "m.py": INNER}
INNER_WAYS = {"script": ("sub/prog.py", "a b", "\xe9", ""), "command": ("-c", INNER, "x", "-c"), "module": ("-m", "m", "y"), "zip": ("app.zip", "z"),
              "directory": ("app", "z"), "isolated": ("-I", "sub/prog.py"), "options": ("-X", "dev", "-B", "sub/prog.py", "-B")}

CASES = [
    *(Case(f"subinterpreter-{name}", way="", args=args, files=INNER_FILES) for name, args in INNER_WAYS.items()),
    Case("subinterpreter-isolated-zip", way="", args=("-I", "app.zip"), files=INNER_FILES, since=(3, 13)),
    Case("subinterpreter-isolated-zip-3.12", way="", args=("-I", "app.zip"), files=INNER_FILES, since=(3, 12), until=(3, 12), known="cold"),
    Case("subinterpreter-isolated-zip-3.11", way="", args=("-I", "app.zip"), files=INNER_FILES, until=(3, 11)),
    Case("shadow-named-in-the-error", way="", args=("random.py",), files={"random.py": "import random\nprint(random.randint(5, 5))\n"}),
    Case("shadow-named-in-the-error-c", "import random\nrandom.randint", way="-c", files={"random.py": ""}),
    Case("subinterpreter-stdin", INNER, way="-", args=("x",)),
    *(Case(f"option-{name}", SHOW + "assert sys.flags.optimize, 'asserted'", options=opts, known="cold" if name in COLD_OPTIONS else "")
      for name, opts in OPTIONS.items() if name != "P"),
    Case("option-P", SHOW, options=("-P",), since=(3, 11)),
    Case("option-u-stdout", "import sys, os\nprint('a', end='')\nos.write(1, b'b')\nsys.stdout.write('c')\nos._exit(0)", options=("-u",)),
    Case("option-O-docstring", "def f():\n    'doc'\nprint(f.__doc__, __debug__)\nassert 0", options=("-OO",)),
    Case("option-b-compare", "print(b'a' == 'a', str(b'a'))", options=("-b",)),
    Case("option-bb-compare", "print(b'a' == 'a')", options=("-bb",)),
    Case("option-dev-warns", "open('x', 'w')\nimport warnings\nwarnings.warn('d', DeprecationWarning)", options=("-X", "dev")),
    Case("option-W-error-raises", "import warnings\nwarnings.warn('w')", options=("-W", "error")),
    Case("option-W-always-resource", "def f(): open('x', 'w')\nf()", options=("-W", "always")),
    Case("option-digits", "str(10 ** 2000)", options=("-X", "int_max_str_digits=1000"), since=(3, 11)),
    Case("option-cpu_count", "import os\nprint(os.cpu_count())", options=("-X", "cpu_count=7"), since=(3, 13)),
    Case("option-warn_default_encoding", "open('main.py')", options=("-X", "warn_default_encoding", "-W", "default")),
    Case("option-S-modules", "import sys\nprint(sorted(sys.modules), 'exit' in dir(__builtins__))", options=("-S",)),
    Case("option-I-modules", "import sys\nprint(sorted(sys.modules))", options=("-I",)),
    Case("option-E-variables", "import sys\nprint(sys.flags, sys.path)", options=("-E",), env={"PYTHONPATH": "/ignored", "PYTHONOPTIMIZE": "2"}),
    Case("option-importtime", "pass", options=("-X", "importtime"), stderr="/dev/null", known="cold"),
    Case("option-i", "import sys\nprint(sys.flags.interactive)", options=("-i",), input=b"print(1 + 1)\n1/0\n", known="cold"),
    Case("option-v-cold", "pass", options=("-v",), stderr="/dev/null", known="cold"),
    Case("option-help-cold", way="", args=("--help",), known="cold"),
    Case("option-showrefcount", "pass", options=("-X", "showrefcount"), known="cold"),
    *(Case(f"invocation-{name}", way="", args=args, files=WRONG_FILES, known="cold" if name in COLD_WRONG else "")
      for name, args in WRONG.items()),
    *(Case(f"variable-PYTHON{name}", SHOW_VARIABLE, env={"PYTHON" + name.split("-")[0].split("=")[0]: value},
           files={"neighbour.py": "", "lib/found.py": "", "start.py": "print('startup')\n", "lib/lib.zip": archive(found="")},
           known="cold" if name in ("HASHSEED-wrong", "PATH-relative", "COERCECLOCALE=warn") else "") for name, value in VARIABLES.items()),
    Case("variable-many", SHOW_VARIABLE, env={"PYTHONOPTIMIZE": "1", "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "7"}, files={"neighbour.py": ""}),
    Case("variable-empty", SHOW_VARIABLE, env={"PYTHONOPTIMIZE": "", "PYTHONPATH": "", "PYTHONWARNINGS": ""}, files={"neighbour.py": ""}),
    Case("variable-tracemalloc-cold", "import tracemalloc\nprint(tracemalloc.is_tracing())", env={"PYTHONTRACEMALLOC": "1"}, known="cold"),
    Case("variable-home-cold", "print(1)", env={"PYTHONHOME": "relative"}, known="cold", stderr="/dev/null"),
    Case("variable-breakpoint", "breakpoint()\nprint('on')", env={"PYTHONBREAKPOINT": "0"}),
    Case("variable-breakpoint-missing", "breakpoint()\nprint('on')", env={"PYTHONBREAKPOINT": "no.such"}),
    Case("variable-breakpoint-function", "breakpoint(4)", env={"PYTHONBREAKPOINT": "sys.exit"}),
    *(Case(f"fact-{name}", f"import sys\nprint(ascii(({text})))", args=("arg", "--flag"), preload=name not in ("importer-cache", "refcount-main"))
      for name, text in FACTS.items()),
    *(Case(f"fact-{name}-{way.strip('-') or 'stdin'}", f"import sys\nprint(ascii(({FACTS[name]})))", way=way, args=("arg",), preload=name not in ("importer-cache", "refcount-main"))
      for way in ("-c", "-m", "-")
      for name in ("argv", "orig_argv", "path", "main-keys", "spec", "loader", "frame", "stack", "importer-cache", "cmdline", "package")),
    *(Case(f"way-{name}", way="", args=args, files=WAY_FILES, input=b"from stdin\n" if name == "stdin" else None) for name, args in WAYS.items()),
    *(Case(f"start-{name}", code, files={"lib/found.py": "x = 'lib'\n", **files}, env={"PYTHONPATH": "{dir}/lib", "PYTHONUSERBASE": "{dir}/user", "CHOICE": "one"},
           known="cold" if name in COLD_START else "")
      for name, (files, code) in START.items()),
    *(Case(f"shadow-{name}", code, files={name.removesuffix("-not") + ".py": "x = 'mine'\n"}) for name, code in SHADOWS.items()),
    Case("modules-bare", "import sys\nprint(*sorted(sys.modules), sep='\\n')", preload=False),
    Case("modules-bare-c", "import sys\nprint(*sorted(sys.modules), sep='\\n')", way="-c", preload=False),
    Case("modules-bare-m", "import sys\nprint(*sorted(sys.modules), sep='\\n')", way="-m", preload=False),
    Case("modules-order", "import sys\nprint(*sys.modules, sep='\\n')", preload=False),
    Case("modules-preloaded", "import sys\nprint(*sorted(sys.modules), sep='\\n')", known="modules"),
    Case("modules-importer-cache", "import sys\nprint(*sorted(sys.path_importer_cache), sep='\\n')", known="modules"),
    Case("modules-attributes", "import xml\nprint(hasattr(xml, 'etree'))", known="modules", warm_out="True\n"),
    Case("layout-hash", "print(hash('a'))", known="layout"),
    Case("layout-addresses", "print(id(object()) // 4096)", known="layout", preload=False),
    Case("layout-set-order", "print(list({str(i) for i in range(200)}))", known="layout"),
    Case("process-parent", "import os\nprint(os.getppid() == int(os.environ['CALLER']))", env={"CALLER": str(os.getpid())}, preload=True,
         known="process", warm_out="False\n"),
    Case("process-session", "import os\nprint(os.getsid(0) == os.getpid() == os.getpgrp())"),
    Case("venv-prefix", "import sys\nprint(sys.prefix, sys.base_prefix != sys.prefix, sys.executable, sys.path)", venv=True),
    Case("venv-package", "import only_in_venv\nprint(only_in_venv.__file__)", venv=True),
    Case("venv-isolated", "import sys\nprint(sys.prefix, sys.flags)", venv=True, options=("-I",)),
    Case("venv-site", "import site\nprint(site.getsitepackages(), site.ENABLE_USER_SITE)", venv=True),
    Case("venv-m", "import sys, sysconfig\nprint(sysconfig.get_path('purelib'), sys.orig_argv)", way="-m", venv=True),
    Case("venv-child", "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import sys; print(sys.prefix)'])", venv=True),
]


def test_same_interpreter(user, case, record):
    record(check(user, case))
