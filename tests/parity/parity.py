"""One observation of a program's life, made under python3 and under warmpy, and compared to the byte.

A `Case` is data: a program, how it is run, and on which interpreters. `observe` runs it in a directory made anew for each
run, and gives an `Outcome`: how it ended, what it wrote to stdout and stderr, and the files it left. `check` proves a case:

    1. python twice: a case whose two cold runs differ would prove nothing, and fails
    2. warmpy, until its run was warm: the same outcome (what ran cold before that is compared as well)
    3. warmpy with PRELOAD, much of the standard library: the same outcome

A difference that must be, one of the four at the end of docs/parity.md, is named in the case (`known`), and exactly that
difference is then asserted: an outcome that does not differ fails as well.
"""

import dataclasses
import functools
import os
import re
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable

from harness import STANDIN, Result, first_difference

# Programs that import nothing of this must not be able to tell that it is loaded; neither must those that do.
PRELOAD = ",".join("""argparse asyncio base64 bisect calendar collections concurrent.futures.process
    concurrent.futures.thread configparser contextlib copy csv ctypes dataclasses datetime decimal difflib
    email.mime.text enum fractions functools getpass glob gzip hashlib heapq html.parser http.client importlib.metadata
    importlib.resources inspect io ipaddress itertools json linecache locale logging.handlers mimetypes
    multiprocessing.pool multiprocessing.managers numbers operator optparse pathlib pickle platform pprint queue random re
    runpy sched secrets select selectors shlex shutil signal socket sqlite3 ssl statistics string struct subprocess
    tarfile tempfile textwrap threading time timeit tokenize traceback types typing unittest.mock urllib.request uuid
    warnings weakref xml.etree.ElementTree zipfile zoneinfo""".split())
ADDRESS = re.compile(rb"0x[0-9a-f]{6,}")  # of objects and threads; python's own differ from run to run
MTIME = 1700000000  # of every file of a case, so that the caches python writes are the same

# The four known differences (DESIGN.md), by the name that a case uses.
KNOWN = {
    "process": "the program is not the shell's own child: its pid, parent, session and CPU-time accounting differ",
    "layout": "programs forked from one zygote share address layout and string-hash seed",
    "modules": "modules that the interpreter had preloaded are in sys.modules",
    "cold": "it runs cold, by python itself: nothing can differ",
}


@dataclasses.dataclass(frozen=True)
class Case:
    """One observation. In `code`, `files`, `args`, `options` and `env`, "{dir}" stands for the directory the program runs in,
    in the names of `files` "{v}" for python's version."""

    name: str
    code: str | bytes = ""
    way: str = "script"  # or "-c", "-m", "-", "": how the code is handed over; "": `args` say it all
    args: tuple[str, ...] = ()
    options: tuple[str, ...] = ()  # of the interpreter
    files: dict[str, str | bytes] = dataclasses.field(default_factory=dict)
    env: dict[str, str | None] = dataclasses.field(default_factory=dict)
    input: bytes | None = None  # on a pipe; None: /dev/null
    stdout: str = "pipe"  # or a path, or "broken": a pipe that nobody reads any more
    stderr: str = "pipe"
    close: tuple[int, ...] = ()
    before: Callable[[], object] | None = None  # in the child, before exec
    send: int = 0  # a signal, once the program has written its first line
    since: tuple[int, int] = (3, 10)
    until: tuple[int, int] = (3, 99)
    preload: bool | None = None  # also with PRELOAD; None: unless it has interpreter options or variables
    known: str = ""
    warm_out: str | None = None  # with `known`: what stdout is then, where it can be said
    venv: bool = False  # the interpreter is that of a venv

    def suits(self, version: str) -> bool:
        return self.since <= tuple(map(int, version.split("."))) <= self.until

    @property
    def preloaded(self) -> bool:
        plain = not self.options and not self.env and not self.venv
        return self.known != "cold" and (plain if self.preload is None else self.preload)


@dataclasses.dataclass(frozen=True)
class Outcome:
    kind: str  # "exit" or "signal"
    value: int
    out: bytes
    err: bytes
    files: dict[str, tuple[int, bytes]]
    warm: bool


def _content(path: str) -> bytes:
    if os.path.islink(path):
        return os.fsencode(os.readlink(path))
    if not os.path.isfile(path):
        return b""
    with open(path, "rb") as file:
        # Of a compiled module the header only: how often a constant is referred to in the process that compiles shapes
        # the rest, in python too.
        return file.read(16) if path.endswith(".pyc") else ADDRESS.sub(b"0x?", file.read())


def _files(directory: str) -> dict[str, tuple[int, bytes]]:
    found = {}
    for root, directories, names in os.walk(directory):
        for name in [*directories, *names]:
            path = os.path.join(root, name)
            found[os.path.relpath(path, directory)] = (os.lstat(path).st_mode, _content(path))
    return found


def _fill(directory: str, files: dict[str, str | bytes], version: str) -> None:
    for name, content in files.items():
        path = os.path.join(directory, name.replace("{v}", version))
        if name.split("/")[0] in LOADED and os.path.exists(path):
            continue
        os.makedirs(os.path.dirname(path), exist_ok=True)
        data = content.replace("{dir}", directory).encode("utf-8", "surrogateescape") if isinstance(content, str) else content
        with open(path, "wb") as file:
            file.write(data)
        os.utime(path, (MTIME, MTIME))


def _command(case: Case, directory: str) -> tuple[list[str], dict[str, str | bytes], bytes | None]:
    """The arguments, the files to write, and what goes to stdin."""
    args = [a.replace("{dir}", directory) for a in case.args]
    options, files = [o.replace("{dir}", directory) for o in case.options], dict(case.files)
    if case.way == "script":
        files["main.py"] = case.code
        return [*options, "main.py", *args], files, case.input
    if case.way == "-m":
        files["main.py"] = case.code
        return [*options, "-m", "main", *args], files, case.input
    if case.way == "-c":
        code = case.code if isinstance(case.code, str) else os.fsdecode(case.code)
        return [*options, "-c", code.replace("{dir}", directory), *args], files, case.input
    if case.way == "-":
        code = case.code.encode() if isinstance(case.code, str) else case.code
        return [*options, "-", *args], files, code
    return [*options, *args], files, case.input


LOADED = ("lib", "user", "cache")  # directories that zygotes watch, because python imports from them before the program runs
_last: list[Case] = []  # whose files lie there


def _empty(directory: str, case: Case) -> None:
    """Leaves nothing of earlier runs; of those of the same case, what would make its zygote stale."""
    keep = LOADED if _last == [case] else ()
    _last[:] = [case]
    os.makedirs(directory, exist_ok=True)
    for entry in os.scandir(directory):
        if entry.is_dir(follow_symlinks=False) and entry.name not in keep:
            shutil.rmtree(entry.path)
        elif not entry.is_dir(follow_symlinks=False):
            os.remove(entry.path)


def _venv(user) -> str:
    """The interpreter of a venv that has a module of its own, made when first wanted."""
    venv = os.path.join(user.home, "venv")
    if not os.path.exists(venv):
        made = user.run_python(["-m", "venv", "--without-pip", venv])
        assert made.status == 0, made
        _fill(venv, {"lib/python{v}/site-packages/only_in_venv.py": "x = 1\n"}, version_of(user.python))
    return os.path.join(venv, "bin/python3")


@functools.cache
def version_of(python: str) -> str:
    """As in "3.11"."""
    ask = [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    return subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()


def _open_output(where: str, directory: str) -> tuple[int, list[int]]:
    """What a standard stream is to be, and the descriptors to close afterwards."""
    if where == "pipe":
        return subprocess.PIPE, []
    if where == "broken":
        read, write = os.pipe()
        os.close(read)
        return write, [write]
    fd = os.open(where.replace("{dir}", directory), os.O_WRONLY | os.O_CREAT, 0o644)
    return fd, [fd]


def observe(user, case: Case, warmpy: bool, preload: bool = False) -> Outcome:
    """Runs the case once, in a directory that holds nothing but its files."""
    directory = os.path.join(user.work, "case")
    args, files, data = _command(case, directory)
    _empty(directory, case)
    _fill(directory, files, version_of(user.python))
    env = {name: value and value.replace("{dir}", directory) for name, value in case.env.items()}
    if preload:
        env["WARMFORK_PRELOAD"] = PRELOAD
    python = user.python
    if case.venv:
        python = env["WARMFORK_PYTHON"] = _venv(user)
    out, close_out = _open_output(case.stdout, directory)
    err, close_err = _open_output(case.stderr, directory)
    try:
        process = user.spawn([user.warmpy if warmpy else python, *args], env=env, cwd=directory, input=data, stdout=out,
                             stderr=err, close=case.close, before=case.before)
    finally:
        for fd in close_out + close_err:
            os.close(fd)
    first = b""
    if case.send:
        first = process.line()
        process.send(case.send)
    result: Result = process.finish()
    user.processes.remove(process)
    return Outcome(result.kind, result.value, first + (result.out or b""), result.err or b"", _files(directory), result.warm)


def differences(want: Outcome, got: Outcome) -> dict[str, str]:
    """What can be told apart, by the name of what differs."""
    found = {}
    if (want.kind, want.value) != (got.kind, got.value):
        found["status"] = f"{want.kind} {want.value}, then {got.kind} {got.value}"
    for name, left, right in (("stdout", want.out, got.out), ("stderr", want.err, got.err)):
        left, right = ADDRESS.sub(b"0x?", left), ADDRESS.sub(b"0x?", right)
        if left != right:
            found[name] = first_difference(left, right)
    for name in sorted({*want.files, *got.files}):
        if want.files.get(name) != got.files.get(name):
            found[f"file {name}"] = f"{_tell(want.files.get(name))}, then {_tell(got.files.get(name))}"
    return found


def _tell(file: tuple[int, bytes] | None) -> str:
    return "missing" if file is None else f"{stat.filemode(file[0])} {file[1]!r:.300}"


def _assert_same(want: Outcome, got: Outcome, what: str) -> None:
    found = differences(want, got)
    assert not found, f"{what}\n" + "\n".join(f"{k}: {v}" for k, v in found.items()) + f"\nfirst  {want}\nsecond {got}"


def _assert_known(case: Case, want: Outcome, got: Outcome) -> None:
    found = differences(want, got)
    if not got.warm:
        assert not found, f"a cold run differs from python\n{found}"
        return
    assert set(found) == {"stdout"}, f"should differ in stdout by {case.known!r}: {found}\n{want}\n{got}"
    if case.warm_out is not None:
        assert got.out.decode() == case.warm_out, got
    elif case.known == "modules":
        missing = set(want.out.split()) - set(got.out.split())
        assert not missing, f"modules that python has and warmpy has not: {missing}"


def check(user, case: Case) -> str:
    """Proves the case on that user's interpreter; returns "same", or the name of the known difference."""
    want = observe(user, case, False)
    again = observe(user, case, False)
    if case.known == "layout":
        assert set(differences(want, again)) == {"stdout"}, f"python's own runs should differ\n{want}"
        first = user.until_warm(lambda: observe(user, case, True))
        _assert_same(first, user.until_warm(lambda: observe(user, case, True)), "two runs of one zygote differ")
        return case.known
    _assert_same(want, again, "broken case: two runs of python differ")

    def attempt(preload):
        def one():
            got = observe(user, case, True, preload)
            differs = case.known in ("process", "modules") and (case.known == "process" or preload)
            if differs:
                _assert_known(case, want, got)
            else:
                _assert_same(want, got, "python and warmpy differ" + (", preloaded" if preload else ""))
            return got
        return one

    if case.known == "cold":
        assert not attempt(False)().warm or STANDIN, "should have run cold"
        return case.known
    user.until_warm(attempt(False))
    if case.preloaded:
        user.until_warm(attempt(True))
    return case.known or "same"


def assert_preloaded(user) -> None:
    """The runs with PRELOAD are served by a zygote that has it, not by the bare one."""
    program = "import sys; print('decimal' in sys.modules and 'asyncio' in sys.modules and 'sqlite3' in sys.modules)"
    env = {"WARMFORK_PRELOAD": PRELOAD}

    def has_it():
        got = user.run(["-c", program], env=env)
        return got.warm and got.out == b"True\n"

    if not STANDIN:
        user.until(has_it)


SIGNALS = {number.name: int(number) for number in signal.Signals}
