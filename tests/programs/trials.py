"""One run of a real program, and what can be told apart between two: outputs, status, and every file it left.

    user = User(bin_dir, venv)               a user with a home, a directory to work in, and zygotes of their own
    with prepared(user, case): …             the case's input is at hand
        want = user.trial(case, COLD)
        got = user.trial(case, BARE)
        difference(want, got)                "" when nothing differs
"""

import contextlib
import json
import marshal
import os
import re
import select
import shutil
import signal
import stat
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "system"))

import harness  # noqa: E402  (the system tests' own)
import procs  # noqa: E402

TOPS = ("work", "home", "tmp")
COLD, BARE, PRELOADED = "python3", "warmpy", "warmpy with preload"
PATIENCE = 180  # seconds, for one run and for a zygote to become ready: a hang fails instead of hanging
STAMP = 1_600_000_000  # of every input file: tools write their input's time into caches
PLACE = re.compile("{(bin|aside)}")
SERVED = re.compile(rb"^warmpy: warm: ([0-9a-f]{32})\.\d, ", re.MULTILINE)


class Trial:
    """How a run ended, what it said, what it left, and how long it took."""

    def __init__(self, result, tree, seconds):
        self.result, self.tree, self.seconds = result, tree, seconds


class User(harness.Warm):
    """A user of the tools of one environment."""

    def __init__(self, bin_dir, venv):
        super().__init__(bin_dir, venv.python)
        self.venv = venv
        names = "tmp", "said", "templates", "aside"
        self.tmp, self.said, self.templates, self.aside = (os.path.join(self.dir, name) for name in names)
        for path in (self.tmp, self.said, self.templates, self.aside):
            os.mkdir(path)
        self.environment["TMPDIR"] = self.tmp

    def template(self, name):
        return os.path.join(self.templates, name)

    def reset(self):
        """Makes work, home and tmp what they were before the first run."""
        for name in TOPS:
            restore(self.template(name), getattr(self, name))
        for entry in os.scandir(self.aside):
            remove(entry)

    def command(self, case, how):
        program = self.python if how == COLD else self.warmpy
        places = {"bin": self.venv.bin, "aside": self.aside}
        return [program, *(PLACE.sub(lambda found: str(places[found[1]]), arg) for arg in case.args)]

    def variables(self, case, how):
        return self.env({**case.env, **({"WARMFORK_PRELOAD": case.preload} if how == PRELOADED else {})})

    def trial(self, case, how, environment=None, **more):
        """One run on fresh input; `environment`: as in a run of that kind. `more`: further variables."""
        self.reset()
        env = {**self.variables(case, environment or how), **more}
        result, seconds = self.spawned(self.command(case, how), env, case.stdin)
        return Trial(result, {name: snapshot(getattr(self, name)) for name in TOPS}, seconds)

    def spawned(self, argv, env, stdin):
        """Runs a command in `work`; returns its Result, and the seconds from its start to its end."""
        names = [os.path.join(self.said, name) for name in ("out", "err")]
        writing = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        actions = [(os.POSIX_SPAWN_OPEN, 0, os.path.join(self.work, stdin) if stdin else os.devnull, os.O_RDONLY, 0)]
        actions += [(os.POSIX_SPAWN_OPEN, i, name, writing, 0o600) for i, name in enumerate(names, 1)]
        here = os.getcwd()
        os.chdir(self.work)  # posix_spawn has no other way
        try:
            begin = time.perf_counter()
            pid = os.posix_spawn(argv[0], argv, env, file_actions=actions, setsid=True)
            end = wait_for(pid, argv)
        finally:
            os.chdir(here)
        warm = procs.comm(pid) == "warmpy"
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        out, err = (Path(name).read_bytes() for name in names)
        kind = "exit" if status >= 0 else "signal"
        return harness.Result(kind, abs(status), out, err, warm), end - begin

    def get_warm(self, case, how):
        """Returns when this case is served by the zygote that is meant, with what the daemon says of that."""
        preload = case.preload if how == PRELOADED else ""
        deadline = time.monotonic() + PATIENCE
        with harness.Watch(self.dir, self.rundir) as watch:
            while True:
                run = self.trial(case, how, WARMFORK_DEBUG="why").result
                served = SERVED.search(run.err)
                for zygote in self.zygotes_known() if served else ():
                    if zygote["key"] == served[1].decode() and zygote["preload"] == preload:
                        return zygote
                assert time.monotonic() < deadline, f"{case.name}: never served {how}\n{run}\n{self.explain()}"
                watch.wait(2)


    def zygotes_known(self):
        """What the daemon says of its zygotes; nothing when it has no time to answer."""
        result = self.ctl("status", "--json")
        return json.loads(result.out)["zygotes"] if result.status == 0 else []


def wait_for(pid, argv):
    """Waits for a child's end without reaping it; the moment when it came."""
    fd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        hung = not poll.poll(PATIENCE * 1000)
        end = time.perf_counter()
    finally:
        os.close(fd)
    if hung:
        os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert not hung, f"no end within {PATIENCE} s: {argv}"
    return end


@contextlib.contextmanager
def prepared(user, case):
    """The case's input is in place while this lasts."""
    for name in TOPS:
        os.mkdir(user.template(name))
    try:
        work = user.template("work")
        case.prepare(Path(work), user.venv)
        for directory, names, files in os.walk(work, topdown=False):
            for name in names + files:
                os.utime(os.path.join(directory, name), (STAMP, STAMP), follow_symlinks=False)
        if case.settled:
            user.trial(case, COLD)
            restore(user.home, user.template("home"))
        yield
    finally:
        for name in TOPS:
            shutil.rmtree(user.template(name))


def restore(template, directory):
    """Makes a directory what its template is. What is the same already stays untouched: zygotes may have read it."""
    wanted = {entry.name: entry for entry in os.scandir(template)}
    for entry in os.scandir(directory):
        model = wanted.get(entry.name)
        if model is None or not is_same(model, entry):
            remove(entry)
        else:
            del wanted[entry.name]
            if entry.is_dir(follow_symlinks=False):
                restore(model.path, entry.path)
    for name, model in wanted.items():
        if model.is_dir(follow_symlinks=False):
            shutil.copytree(model.path, os.path.join(directory, name), symlinks=True)
        else:
            shutil.copy2(model.path, os.path.join(directory, name), follow_symlinks=False)


def is_same(model, entry):
    """Whether an entry of a directory needs no restoring, what is inside of a directory aside."""
    left, right = (e.stat(follow_symlinks=False) for e in (model, entry))
    if left.st_mode != right.st_mode:
        return False
    if stat.S_ISLNK(left.st_mode):
        return os.readlink(model.path) == os.readlink(entry.path)
    if stat.S_ISDIR(left.st_mode):
        return True
    same = (left.st_mtime_ns, left.st_size) == (right.st_mtime_ns, right.st_size)
    return same and Path(model.path).read_bytes() == Path(entry.path).read_bytes()


def remove(entry):
    if entry.is_dir(follow_symlinks=False):
        shutil.rmtree(entry.path)
    else:
        os.unlink(entry.path)


def snapshot(top):
    """{relative path: (type, mode, content)} of everything below a directory."""
    found = {}
    for directory, names, files in os.walk(top):
        for name in names + files:
            path = os.path.join(directory, name)
            st = os.lstat(path)
            kind = stat.S_IFMT(st.st_mode)
            content = b""
            if kind == stat.S_IFREG:
                content = Path(path).read_bytes()
            elif kind == stat.S_IFLNK:
                content = os.readlink(path)
            found[os.path.relpath(path, top)] = kind, stat.S_IMODE(st.st_mode), content
    return found


def difference(want, got):
    """What differs between two trials, as text; "" when nothing does."""
    found = harness.compare(want.result, got.result)
    if found:
        return found
    for top, tree in want.tree.items():
        found = tree_difference(tree, got.tree[top])
        if found:
            return f"{top}/{found}"
    return ""


def tree_difference(want, got):
    for path in sorted(want.keys() | got.keys()):
        if path not in got or path not in want:
            return f"{path}: only {'python' if path in want else 'warmpy'} left it"
        if want[path][:2] != got[path][:2]:
            return f"{path}: types and modes {want[path][:2]} and {got[path][:2]}"
        left, right = want[path][2], got[path][2]
        if left != right and not same_code(path, left, right):
            if isinstance(left, str):
                return f"{path}: links to {left} and {right}"
            return f"{path}: {harness.first_difference(left, right)}"
    return ""


def same_code(path, left, right):
    """Whether two .pyc files differ only in how they are written down.

    Their writer marks what it may refer to again by the count of references to it, interned names included, which
    depends on everything else that the process has loaded: two runs of python itself that came to compile the same
    source by different ways write different bytes too.
    """
    if not path.endswith(".pyc") or left[:16] != right[:16]:
        return False
    return code_of(marshal.loads(left[16:])) == code_of(marshal.loads(right[16:]))


def code_of(code):
    """All that is in a code object, types included, for comparing."""
    if not hasattr(code, "co_code"):
        if isinstance(code, (tuple, frozenset)):
            parts = [code_of(part) for part in code]
            return type(code), sorted(parts, key=repr) if isinstance(code, frozenset) else parts
        return type(code), repr(code)
    names = sorted(name for name in dir(code) if name.startswith("co_") and name not in ("co_lnotab", "co_lines", "co_positions"))
    return [(name, code_of(getattr(code, name))) for name in names]
