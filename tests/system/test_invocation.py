"""Every way to name a program, and every interpreter option: what warmpy prints is what python prints."""

import os
import zipfile

import pytest
from harness import write

SHOW = "import sys; print(sys.argv, sys.flags, sys.path[0:1], __name__, sorted(vars()))"


def test_command(shared):
    shared.same(["-c", "print('hello')"])
    shared.same(["-c", SHOW, "a", "-b", "--", "c"])
    shared.same(["-cprint(1)"])
    shared.same(["-c", ""])
    shared.same(["-c", "import sys\nprint(sys.argv)\n\n", "-c", "print(2)"])


def test_script(shared):
    path = write(f"{shared.work}/script.py", SHOW + "\nprint(__file__)\n")
    shared.same(["script.py"])
    shared.same(["./script.py", "x", ""])
    shared.same([path, "-c", "y"])
    shared.same(["--", "script.py", "--", "x"])


def test_script_with_odd_names(shared):
    for name in ("with space.py", "noextension", "dash-.py", "-.txt", "ünïcode.py", ".hidden"):
        write(f"{shared.work}/{name}", "import sys; print(ascii(sys.argv), ascii(__file__))\n")
        shared.same([f"./{name}"])
    write(f"{shared.work}/".encode() + b"bytes\xff.py", "import sys; print(ascii(sys.argv), ascii(__file__))\n")
    shared.same([b"bytes\xff.py"])


def test_script_through_symlink(shared):
    """sys.path[0] is the directory of the file behind the link."""
    os.makedirs(f"{shared.work}/real", exist_ok=True)
    write(f"{shared.work}/real/neighbour.py", "name = 'neighbour'\n")
    write(f"{shared.work}/real/linked.py", "import sys, neighbour; print(neighbour.name, sys.path[0], __file__)\n")
    if not os.path.islink(f"{shared.work}/link.py"):
        os.symlink("real/linked.py", f"{shared.work}/link.py")
    shared.same(["link.py"])


def test_script_encodings(shared):
    shared.same([write(f"{shared.work}/latin.py", b"# coding: latin-1\nprint(ascii('\xe9'))\n")])
    shared.same([write(f"{shared.work}/bom.py", b"\xef\xbb\xbfprint(ascii('\xc3\xa9'))\n")])
    shared.same([write(f"{shared.work}/wrong.py", b"print('\xe9')\n")], warm=None)
    shared.same([write(f"{shared.work}/crlf.py", b"print(1)\r\nprint('''a\r\nb''')\r\n")])
    shared.same([write(f"{shared.work}/null.py", b"print(1)\n\0\n")], warm=None)
    shared.same([write(f"{shared.work}/empty.py", b"")])
    shared.same([write(f"{shared.work}/noeol.py", b"if 1:\n  print(3)")])


def test_script_that_is_not_there(shared):
    shared.same(["missing.py"], warm=None)
    shared.same(["missing/missing.py", "x"], warm=None)
    os.makedirs(f"{shared.work}/nomain", exist_ok=True)
    shared.same(["nomain"], warm=None)
    shared.same([write(f"{shared.work}/broken.zip", b"PK\3\4 not a zip")], warm=None)


def test_directory(shared):
    os.makedirs(f"{shared.work}/dir", exist_ok=True)
    write(f"{shared.work}/dir/helper.py", "value = 7\n")
    write(f"{shared.work}/dir/__main__.py", SHOW + "\nimport helper; print(helper.value, __file__, __spec__.name)\n")
    shared.same(["dir", "arg"])
    shared.same([f"{shared.work}/dir"])
    shared.same(["./dir/"])


def test_zip(shared):
    path = f"{shared.work}/app.zip"
    if not os.path.exists(path):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("helper.py", "value = 8\n")
            archive.writestr("__main__.py", SHOW + "\nimport helper; print(helper.value, __file__)\n")
    shared.same(["app.zip", "arg"])
    shared.same([path])


def test_module(shared):
    os.makedirs(f"{shared.work}/package/sub", exist_ok=True)
    write(f"{shared.work}/package/__init__.py", "print('init', __name__)\n")
    write(f"{shared.work}/package/__main__.py", SHOW + "\nprint(__spec__.name, __package__, __file__)\n")
    write(f"{shared.work}/package/sub/__init__.py", "")
    write(f"{shared.work}/package/sub/mod.py", SHOW + "\nfrom .. import __name__ as up; print(up, __package__)\n")
    write(f"{shared.work}/single.py", SHOW + "\nprint(__spec__.name, repr(__package__), __file__)\n")
    shared.same(["-m", "package", "arg"])
    shared.same(["-mpackage", "arg"])
    shared.same(["-m", "package.sub.mod"])
    shared.same(["-m", "single", "-m", "x"])
    shared.same(["-m", "package.missing"], warm=None)
    shared.same(["-m", "missing_module"], warm=None)
    shared.same(["-m", "package.sub"], warm=None)


def test_module_of_the_library(shared):
    shared.same(["-m", "json.tool"], input=b'{"b": [1, 2], "a": null}')
    shared.same(["-m", "json.tool"], input=b"{broken")
    shared.same(["-m", "base64", "-e"], input=bytes(range(256)))
    shared.same(["-m", "this"])
    shared.same(["-m", "tabnanny", "-v", "."], warm=None)


def test_program_on_stdin(shared):
    program = b"import sys\nprint(sys.argv, sys.path[:1], __name__, sorted(vars()))\n"
    shared.same(["-"], input=program)
    shared.same(["-", "a", "b"], input=program)
    shared.same([], input=program)
    shared.same([], input=b"")
    shared.same([], input=b"print(1)\nraise SystemExit(4)\nprint(2)\n")
    shared.same(["-"], input=b"x = (\n", warm=None)
    shared.same([], input=b"1/0\n")


def test_program_on_stdin_from_file(shared):
    path = write(f"{shared.work}/stdin.py", "import sys\nprint(sys.argv)\ndef f():\n  return 1\nprint(f())\n")
    with open(path, "rb") as file:
        def rewound():
            file.seek(0)
            return {"stdin": file}

        shared.same_as(lambda: ["-", "x"], True, rewound)


OPTIONS = [
    ["-u"], ["-B"], ["-O"], ["-OO"], ["-E"], ["-s"], ["-S"], ["-I"], ["-q"], ["-b"], ["-bb"], ["-P"],
    ["-W", "error"], ["-Werror"], ["-W", "ignore::DeprecationWarning", "-Wdefault"], ["-X", "dev"], ["-Xdev"],
    ["-X", "utf8"], ["-X", "utf8=0"], ["-X", "int_max_str_digits=700"], ["-IB"], ["-uB", "-O"], ["-sE"],
    ["-W", "nonsense:::::"], ["-X", "unknown_thing=1"], ["-X", "frozen_modules=off"], ["-X", "no_debug_ranges"],
    ["--check-hash-based-pycs", "always"], ["-X", "faulthandler"],
]
OPTION_PROGRAM = """
import sys, os, warnings
print(sys.flags, sys._xoptions, sys.warnoptions, sys.argv, sys.orig_argv[1:-1])
print(__debug__, sys.dont_write_bytecode, sys.stdout.write_through, sys.stdout.line_buffering)
print(sys.stdin.encoding, sys.stdout.encoding, sys.getfilesystemencoding(), sys.path)
print([(f[0], f[2].__name__, f[4]) for f in warnings.filters], os.environ.get('PYTHONPATH'))
def f():
    'doc'
    assert False, 'assertion'
print(f.__doc__)
try:
    f()
except AssertionError as e:
    print('asserted')
warnings.warn('be warned', DeprecationWarning)
print(str(b'x') == 'x')
"""


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_options(shared, options):
    shared.same([*options, "-c", OPTION_PROGRAM], warm=None if shared_runs_cold(options) else True)


def shared_runs_cold(options):
    """-X keys that need not be served warm; everything else must be."""
    served = ("dev", "utf8", "utf8=0", "int_max_str_digits=700")
    keys = [option for option in options if not option.startswith("-")]
    return bool(keys) and "-X" in options and keys[0] not in served or "--check-hash-based-pycs" in options \
        or "-P" in options or "nonsense:::::" in options


def test_options_attached_to_command(shared):
    shared.same(["-IBcimport sys; print(sys.flags, sys.argv)", "a"])
    shared.same(["-uc", "print(1)"])
    shared.same(["-Bm", "json.tool"], input=b"[1]")
    shared.same(["-Im", "json.tool"], input=b"[1]")


def test_interactive_after_program(shared):
    shared.same(["-i", "-c", "x = 3"], input=b"print(x)\n", warm=None)
    shared.same(["-ic", "x = 3"], input=b"x\nimport sys\nsys.exit(9)\n", warm=None)
    script = write(f"{shared.work}/inter.py", "y = 5\n")
    shared.same(["-q", "-i", script], input=b"print(y)\n1/0\nprint(2)\n", warm=None)


COLD = [
    ["-V"], ["--version"], ["-VV"], ["-h"], ["--help"], ["-?"], ["--unknown-option"], ["-Z"], ["-c"], ["-m"], ["-W"],
    ["-X"], ["-BZ"], ["-j", "x"], ["--help-env"], ["--help-xoptions"], ["-x", "skip.py"], ["-d", "-c", "print(1)"],
    ["-X", "tracemalloc=5", "-c", "print(1)"], ["--check-hash-based-pycs"],
    ["--check-hash-based-pycs", "wrong", "-c", "print(1)"], ["-J"], ["-t", "-c", "print(1)"],
]


@pytest.mark.parametrize("args", COLD, ids=" ".join)
def test_what_only_python_can_answer(shared, args):
    write(f"{shared.work}/skip.py", "not python at all\nprint('second line')\n")
    shared.same(args, warm=None)


def test_verbose(shared):
    """-v differs in details from run to run (addresses), but it must be there, and the program must run."""
    result = shared.run(["-v", "-c", "print(1)"])
    assert result.out == b"1\n" and b"import _frozen_importlib" in result.err and result.status == 0


@pytest.mark.parametrize("name,value", [
    ("PYTHONOPTIMIZE", "2"), ("PYTHONUNBUFFERED", "1"), ("PYTHONDONTWRITEBYTECODE", "1"), ("PYTHONWARNINGS", "error"),
    ("PYTHONUTF8", "1"), ("PYTHONIOENCODING", "latin-1:replace"), ("PYTHONHASHSEED", "42"), ("PYTHONNOUSERSITE", "1"),
    ("PYTHONPATH", "/tmp/nowhere:/tmp"), ("PYTHONPATH", "relative"), ("PYTHONPATH", ""), ("PYTHONSAFEPATH", "1"),
    ("PYTHONINSPECT", "1"), ("PYTHONDEVMODE", "1"), ("LC_ALL", "C"), ("LC_ALL", "POSIX"), ("PYTHONCOERCECLOCALE", "0"),
    ("LANG", None), ("TZ", "Asia/Kathmandu"), ("HOME", "/tmp"), ("PYTHONTRACEMALLOC", "3"), ("PYTHONFAULTHANDLER", "1"),
    ("PYTHONSTARTUP", "/dev/null"), ("PYTHONINTMAXSTRDIGITS", "1000"),
    ("PYTHONPYCACHEPREFIX", "/tmp/wf-pycache-none"), ("PYTHONUSERBASE", "/tmp/none"), ("PYTHONBREAKPOINT", "0"),
])
def test_variables_that_shape_the_interpreter(shared, name, value):
    program = OPTION_PROGRAM + f"""
import time, site
print(os.environ.get({name!r}), time.tzname, hash('x') if 'PYTHONHASHSEED' in os.environ else 0)
print(os.path.expanduser('~'), ascii('\xe9'), sorted(k for k in os.environ if k[:2] == 'LC'), site.ENABLE_USER_SITE)
print(sys.pycache_prefix, sys.breakpointhook)
""".replace("sys.breakpointhook", "0")
    shared.same(["-c", program], env={name: value}, warm=None)
