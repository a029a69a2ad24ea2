"""argv and environment arrive exactly: every byte, every order, every size that Linux itself allows."""

import os

import pytest
from harness import write
from test_staleness import is_preloaded

ARGV = """
import sys, os, hashlib
raw = [os.fsencode(a) for a in sys.argv]
print(len(raw), hashlib.sha256(b'\\0'.join(raw)).hexdigest(), raw[:20])
raw = [os.fsencode(a) for a in sys.orig_argv]
print(len(raw), hashlib.sha256(b'\\0'.join(raw)).hexdigest(), raw[0], raw[-1][-20:])
"""
ENVIRON = """
import os, ctypes, subprocess, hashlib, sys
def show(what, pairs):
    text = repr(pairs)
    print(what, len(pairs), hashlib.sha256(text.encode()).hexdigest(), text[:2000])
show('os.environ', list(os.environb.items()))
import posix
show('posix', list(posix.environ.items()))
array = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), 'environ')
entries = []
while array[len(entries)] is not None:
    entries.append(array[len(entries)])
show('C environ', entries)
getenv = ctypes.CDLL(None).getenv
getenv.restype = ctypes.c_char_p
show('getenv', [getenv(n) for n in (b'A', b'B', b'EMPTY', b'PATH', b'HOME', b'D', b'')])
sys.stdout.flush()
if len(sys.argv) > 1:
    subprocess.run(['/usr/bin/env', '-0'])
"""


@pytest.mark.parametrize("args", [
    [], [""], ["", "", ""], [" ", "\t", "\n"], ["a b", "'", '"', "$x", "`x`", "\\"], [b"\xff\xfe", b"caf\xe9", "café"],
    ["-"], ["--"], ["-c"], ["--help"], ["\x7f\x01"], ["=", "A=B"], ["x" * 4096], ["𝒳", "\ud7ff"],
], ids=ascii)
def test_argv(shared, args):
    shared.same(["-c", ARGV, *args])


def test_argv_of_a_script(shared):
    path = write(f"{shared.work}/argv.py", ARGV)
    shared.same([path, b"\xff", "", "-x", "--", "z"])


def test_many_arguments(shared):
    shared.same(["-c", ARGV, *(f"argument {i}" for i in range(3000))])
    shared.same(["-c", ARGV, *("" for _ in range(5000))])


def test_large_arguments(shared):
    shared.same(["-c", ARGV, *(chr(97 + i) * 100_000 for i in range(8))])
    shared.same(["-c", ARGV, "y" * 131_000])


def test_large_program_text(shared):
    shared.same(["-c", "print(0)\n" + "# " + "z" * 120_000 + "\nprint(1)"])


def test_environment(shared):
    env = {"A": "1", "EMPTY": "", "SPACE": " a  b ", "NEWLINE": "a\nb", "EQUALS": "a=b=c", "UNICODE": "日本語", "lower": "x"}
    shared.same(["-c", ENVIRON], env=env)
    shared.same(["-c", ENVIRON, "child"], env=env)


def test_environment_with_removals(shared):
    """The zygote was started with variables that this run does not have."""
    shared.ready(env={"GONE": "1", "ALSO_GONE": "x" * 1000})
    shared.same(["-c", ENVIRON, "child"])
    shared.same(["-c", "import os; print(os.environ.get('GONE'), os.getenv('GONE'))"])
    shared.same(["-c", ENVIRON], env={"PATH": None})


def exact(shared, *more):
    base = [f"{name}={value}".encode() for name, value in shared.environment.items()]
    return base + list(more)


@pytest.mark.parametrize("more", [
    [b"BYTES=\xff\xfe", b"\xe9=value"],
    [b"A=1", b"A=2", b"B=1", b"A=3"],
    [b"NOEQUALS", b"=leading", b"A=1", b"==", b"", b"=D=x"],
    [b"EMPTY="],
    [b"Z=26", b"Y=25", b"X=24"],
    [b"PATH=/first/duplicate", b"HOME=/other"],
], ids=repr)
def test_environment_byte_for_byte(shared, more):
    """Entries that no shell makes: duplicates, no `=`, nothing before it, in an order of their own."""
    shared.same(["-c", ENVIRON, "child"], exact_env=exact(shared, *more), warm=None)
    shared.same(["-c", ENVIRON], exact_env=list(reversed(exact(shared, *more))), warm=None)


CHANGES = {
    "none": lambda e: e,
    "middle": lambda e: e[:2] + [b"MIDDLE=1"] + e[2:],
    "first gone": lambda e: e[1:],
    "last gone": lambda e: e[:-1],
    "swapped": lambda e: e[:-2] + [e[-1], e[-2]],
    "changed and more": lambda e: [e[0] + b":/x"] + e[1:] + [b"NEW=1", b"NEWER=2"],
    "15 more": lambda e: e + [b"N%d=%d" % (i, i) for i in range(15)],
    "20 more": lambda e: e + [b"N%d=%d" % (i, i) for i in range(20)],
    "twice": lambda e: e + [e[0].split(b"=")[0] + b"=again", b"NEW=1", b"NEW=2"],
    "instead": lambda e: e[:-1] + [e[0].split(b"=")[0] + b"=again"],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_environment_that_differs_in_a_few_places(shared, change):
    """Set-up changes only those in os.environ: the order and what is not there any more must come out right."""
    shared.ready()
    shared.same(["-c", ENVIRON, "child"], exact_env=change(exact(shared)), warm=None)
    shared.same(["-c", "import os; print(os.environ); os.environ['LATER'] = '1'; print(list(os.environ)[-3:])"],
                exact_env=change(exact(shared)), warm=None)


SETS = """
import os
os.environ.setdefault("SET_BY_IMPORT", "1")
os.environ["CHANGED_BY_IMPORT"] = "2"
os.environ["NEW_BY_IMPORT"] = "3"
del os.environ["GONE_BY_IMPORT"]
"""


@pytest.mark.every_python
def test_environment_that_the_preload_changes(warm):
    """Modules that set variables when they are imported, as scikit-learn does: with each environment as if it had been now."""
    os.makedirs(f"{warm.work}/lib")
    write(f"{warm.work}/lib/sets.py", SETS)
    warm.environment.update(PYTHONPATH=f"{warm.work}/lib", GONE_BY_IMPORT="x", CHANGED_BY_IMPORT="1", WARMFORK_PRELOAD="sets",
                            LAST="z")
    is_preloaded(warm, "sets")
    for change in CHANGES.values():
        for _ in range(2):
            warm.same(["-c", "import sets\n" + ENVIRON, "child"], exact_env=change(exact(warm)), warm=None)


def test_unusual_environment_is_warm(shared):
    shared.same(["-c", ENVIRON], exact_env=exact(shared, b"BYTES=\xff", b"NOEQUALS", b"A=1", b"A=2"))


def test_large_environment(shared):
    """Two megabytes: more than any socket buffer."""
    many = [b"V%d=%s" % (i, b"v" * 100_000) for i in range(12)] + [b"S%d=" % i for i in range(4000)]
    shared.same(["-c", ENVIRON], exact_env=exact(shared, *many))
    shared.same(["-c", ENVIRON, "child"], exact_env=exact(shared, *many), timeout=60)


def test_changes_reach_children_and_c(shared):
    program = """
import os, subprocess, ctypes
os.environ['NEW'] = 'new'; os.putenv('RAW', 'raw'); del os.environ['A']; os.environ['B'] = ''
getenv = ctypes.CDLL(None).getenv; getenv.restype = ctypes.c_char_p
print([getenv(n) for n in (b'NEW', b'RAW', b'A', b'B')], flush=True)
subprocess.run(['/bin/sh', '-c', 'echo $NEW $RAW ${A-unset} ${B-unset} $C'])
"""
    shared.same(["-c", program], env={"A": "1", "B": "2", "C": "3"})


def test_nothing_of_warmfork_in_the_environment(shared):
    """What the zygote needed (LD_PRELOAD, GLIBC_TUNABLES) is not to be seen, and what the caller set stays."""
    names = "import os; print({k: v for k, v in os.environ.items() if k[:3] in ('LD_', 'GLI', 'MAL', 'WAR')})"
    shared.same(["-c", names])
    maps = "print(sorted({l.split()[5] for l in open('/proc/self/maps') if '_observe' in l}))"
    shared.same(["-c", "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])", names])
    shared.same(["-c", "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])", maps])
    shared.same(["-c", names], env={"GLIBC_TUNABLES": "glibc.malloc.check=0"}, warm=None)
    shared.same(["-c", names], env={"LD_PRELOAD": "libm.so.6"}, warm=None)
    shared.same(["-c", names], env={"LD_PRELOAD": "", "GLIBC_TUNABLES": ""}, warm=None)


def test_command_line_and_environment_in_proc(shared):
    """What ps shows, and what `pgrep -f` finds, is the program's own."""
    show = "import sys; print(open('/proc/self/cmdline', 'rb').read()); print(open('/proc/self/comm').read() != '')"
    shared.same(["-c", show, "an argument", ""])
    shared.same([write(f"{shared.work}/cmdline.py", show), "x" * 2000])
    shared.same(["-c", "print(sorted(open('/proc/self/environ', 'rb').read().split(b'\\0')))"], env={"MORE": "y" * 3000})
