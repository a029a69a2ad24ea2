"""Runs the real binaries: one `Warm` is one user with a runtime directory, a home and an interpreter of its own.

What a test needs:

    warm.same(args, **how)     runs python, then warmpy, and asserts that nothing can be told apart: stdout, stderr
                               and status byte for byte. Goes on until warmpy's run *was* warm, so that no test
                               passes by running cold; every run before that is compared as well.
    warm.run(args, **how)      one run of warmpy, to the end; `Result.warm` tells whether it was warm.
    warm.run_python(args, …)   the same with python.
    warm.start(args, **how)    a run in the background: a `Process`.
    warm.ready(options, …)     returns when runs with these options and this environment are warm.
    warm.ctl(*args)            warmctl. warm.status(): `warmctl status --json`, decoded.

`how`: input (bytes, through a pipe), stdin/stdout/stderr (descriptors or files), env (added to the clean
environment; None removes a variable), exact_env (a list of bytes, given to execve as it is), cwd, close (numbers
of descriptors to close), fds (descriptors to inherit), before (called in the child before exec), timeout.
`how` may also be a function that returns these, called anew for each run.

How a run is known to have been warm: warmpy execs python when it runs cold, and stays itself otherwise. The dead
but not yet reaped process still has its name: "warmpy", or that of the interpreter.
"""

import ctypes
import json
import os
import re
import select
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
import time

import procs
from watch import Watch

TIMEOUT = 60  # for one run; far above anything legitimate, so that a hang fails instead of hanging
WAIT = float(os.environ.get("WARMFORK_TEST_WAIT", 30))  # for something to become warm, or true
STANDIN = bool(os.environ.get("WARMFORK_TEST_STANDIN"))  # the binaries are stand-ins that always run cold
LEFT_IN_RUNDIR = {"daemon.log", "daemon.log.1", "daemon.lock", "zygotes"}
ADDRESS = re.compile(rb"(?<=at |ad )0x[0-9a-f]{6,}")  # "<function f at 0x7f9f1f9404a0>", "thread 0x00007f9f1f940480"
libc = ctypes.CDLL(None, use_errno=True)


class Result:
    """How a run ended: kind "exit" or "signal", value, and what was written."""

    def __init__(self, kind, value, out, err, warm):
        self.kind, self.value, self.out, self.err, self.warm = kind, value, out, err, warm

    @property
    def status(self):
        """As subprocess has it: the exit code, or minus the signal."""
        return self.value if self.kind == "exit" else -self.value

    def __repr__(self):
        where = "warm" if self.warm else "cold"
        return f"<{where} {self.kind} {self.value}\n out={shorten(self.out)}\n err={shorten(self.err)}>"


def shorten(data, limit=3000):
    if data is None or len(data) <= limit:
        return repr(data)
    return f"{data[:limit]!r}… ({len(data)} bytes)"


class Process:
    """A running warmpy (or python), in the background."""

    def __init__(self, argv, env, exact_env=None, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                 stderr=subprocess.PIPE, input=None, cwd=None, close=(), fds=(), before=None, timeout=TIMEOUT,
                 session=True):
        self.timeout = timeout
        child = _child_function(argv, exact_env, close, fds, before, session)
        self.popen = subprocess.Popen(
            argv, env=env, cwd=cwd, close_fds=False, preexec_fn=child, stdout=stdout, stderr=stderr,
            stdin=subprocess.PIPE if input is not None else stdin)
        self.pid = self.popen.pid
        self.stdin, self.stdout, self.stderr = self.popen.stdin, self.popen.stdout, self.popen.stderr
        self.threads, self.data, self.result = [], {}, None
        self.input = input

    def line(self):
        """The next line of the program's stdout (how a program tells that it got somewhere)."""
        return self.stdout.readline()

    def send(self, sig):
        os.kill(self.pid, sig)

    def finish(self, timeout=None):
        """Waits for the end, closes everything, returns the Result; a hang is killed and fails the test."""
        if self.result is not None:
            return self.result
        self._collect()
        timeout = timeout or self.timeout
        hung = bool(procs.wait_gone([self.pid], timeout))
        if hung:
            self.send(signal.SIGKILL)
        info = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        warm = procs.comm(self.pid) == "warmpy"
        self.popen.wait()
        for thread in self.threads:
            thread.join(0.1 if hung else timeout)
            hung = hung or thread.is_alive()
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None and not hung:
                _close_quietly(stream)
        kind = "exit" if info.si_code == os.CLD_EXITED else "signal"
        self.result = Result(kind, info.si_status, self.data.get("out"), self.data.get("err"), warm)
        assert not hung, f"no end of the run within {timeout} s: {self.popen.args!r:.500}\n{self.result}"
        return self.result

    def _collect(self):
        def read(name, stream):
            self.data[name] = stream.read()

        def write(stream):
            try:
                stream.write(self.input)
            except BrokenPipeError:
                pass
            _close_quietly(stream)

        def spawn(*call):
            thread = threading.Thread(target=call[0], args=call[1:], daemon=True)
            thread.start()
            self.threads.append(thread)

        if self.stdout is not None and not self.stdout.closed:
            spawn(read, "out", self.stdout)
        if self.stderr is not None and not self.stderr.closed:
            spawn(read, "err", self.stderr)
        if self.input is not None:
            spawn(write, self.stdin)
        elif self.stdin is not None:
            _close_quietly(self.stdin)


def _close_quietly(stream):
    try:
        stream.close()
    except (BrokenPipeError, OSError):
        pass


def _child_function(argv, exact_env, close, fds, before, session):
    """What runs in the child before exec. Only what `before` places above 2, and `fds`, is inherited."""
    if exact_env is not None:
        vector = _string_array([os.fsencode(arg) for arg in argv])
        environment = _string_array(exact_env)

    def run():
        if session:
            os.setsid()
        for fd in map(int, os.listdir("/proc/self/fd")):
            if fd > 2 and fd not in fds:
                _keep_to_ourselves(fd)
        if before is not None:
            before()
        for fd in close:
            os.close(fd)
        if exact_env is not None:
            libc.execve(os.fsencode(argv[0]), vector, environment)
            os._exit(126)

    return run


def _keep_to_ourselves(fd):
    try:
        os.set_inheritable(fd, False)
    except OSError:
        pass  # that of the directory just listed


def _string_array(strings):
    return (ctypes.c_char_p * (len(strings) + 1))(*strings, None)


class Warm:
    """One user of warmfork, with directories of its own; `close()` asserts that nothing of it is left."""

    def __init__(self, bin_dir, python):
        self.bin, self.python = bin_dir, python
        self.dir = tempfile.mkdtemp(prefix="wf-", dir="/tmp")
        self.rundir, self.home, self.work = (os.path.join(self.dir, name) for name in ("run", "home", "work"))
        os.mkdir(self.home)
        os.mkdir(self.work)
        self.environment = {
            "PATH": os.path.dirname(python) + ":/usr/local/bin:/usr/bin:/bin",
            "HOME": self.home, "LANG": "C.UTF-8", "WARMFORK_RUNTIME_DIR": self.rundir, "WARMFORK_PYTHON": python,
        }
        self.warmpy = os.path.join(bin_dir, "warmpy")
        self.processes = []
        self.identity = None  # (uid, gid) to run as
        self.fds_before = procs.open_fds()

    # Running

    def env(self, changes=None):
        env = {**self.environment, **(changes or {})}
        return {name: value for name, value in env.items() if value is not None}

    def spawn(self, argv, env=None, before=None, **how):
        def first():
            if self.identity is not None:
                uid, gid = self.identity
                os.setgroups([])
                os.setresgid(gid, gid, gid)
                os.setresuid(uid, uid, uid)
            if before is not None:
                before()

        how.setdefault("cwd", self.work)
        process = Process(argv, self.env(env), before=first, **how)
        self.processes.append(process)
        return process

    def start(self, args, **how):
        return self.spawn([self.warmpy, *args], **how)

    def run(self, args, **how):
        return self.start(args, **how).finish()

    def run_python(self, args, **how):
        return self.spawn([self.python, *args], **how).finish()

    def ctl(self, *args, **how):
        return self.spawn([os.path.join(self.bin, "warmctl"), *args], **how).finish()

    def status(self):
        result = self.ctl("status", "--json")
        assert result.status == 0, result
        return json.loads(result.out)

    def log(self):
        paths = [os.path.join(self.rundir, name) for name in ("daemon.log.1", "daemon.log")]
        return b"".join(procs.read(path) for path in paths if os.path.isfile(path)).decode("utf-8", "replace")

    # Waiting, always for an event

    def until_warm(self, attempt, seconds=WAIT):
        """Calls `attempt` until its Result is warm, waiting in between for something to happen in the runtime
        directory; returns that Result."""
        deadline = time.monotonic() + seconds
        with Watch(self.dir, self.rundir) as watch:
            while True:
                result = attempt()
                if result.warm or STANDIN:
                    return result
                assert time.monotonic() < deadline, f"never became warm\n{result}\n{self.explain()}"
                watch.wait(0.5)  # and now and then, for what leaves no trace there

    def ready(self, options=(), env=None, module=False, program="pass", **how):
        """Returns when runs with these interpreter options and this environment are warm."""
        args = [*options, "-m", "this"] if module else [*options, "-c", program]
        self.until_warm(lambda: self.run(args, env=env, **how))

    def until(self, true, seconds=WAIT):
        """Waits until `true()` is, looking again whenever something happens in the runtime directory (and now and
        then, for what leaves no trace there). Returns its value."""
        deadline = time.monotonic() + seconds
        with Watch(self.dir, self.rundir) as watch:
            while True:
                value = true()
                if value:
                    return value
                assert time.monotonic() < deadline, f"did not come true within {seconds} s\n{self.explain()}"
                watch.wait(0.2)

    # Comparing

    def same(self, args, warm=True, **how):
        """Asserts that warmpy's run is python's; returns warmpy's Result. `warm`: True (it must get warm), False
        (it must run cold), None (either)."""
        return self.same_as(lambda: args, warm, lambda: how)

    def same_as(self, args, warm, how):
        """`same` with functions that make the arguments and the `how` of each run anew."""
        want = self.run_python(args(), **how())

        def attempt():
            got = self.run(args(), **how())
            difference = compare(want, got)
            assert not difference, f"{difference}\npython {want}\nwarmpy {got}"
            return got

        got = self.until_warm(attempt) if warm else attempt()
        assert warm is not False or STANDIN or not got.warm, f"should have run cold: {got}"
        return got

    # Explaining and ending

    def explain(self):
        """What is known about why a run is not warm, for failure messages."""
        why = self.run(["-c", "pass"], env={"WARMFORK_DEBUG": "why"})
        status = self.ctl("status")
        mine = "\n".join(procs.describe(pid) for pid in procs.belonging_to(self.dir))
        return (f"why: {why.err!r}\nstatus: {status.out.decode(errors='replace')}{status.err!r}\n"
                f"log: {self.log()[-4000:]}\nprocesses:\n{mine}")

    def daemons(self):
        """Pids of this user's daemons."""
        return [pid for pid in procs.belonging_to(self.dir) if procs.comm(pid) == "warmforkd"]

    def zygotes(self):
        """Pids of the base zygotes: the daemon's own interpreters."""
        daemons = set(self.daemons())
        return [pid for pid in procs.belonging_to(self.dir)
                if procs.ppid(pid) in daemons and procs.read(f"/proc/{pid}/cmdline").find(b"boot.py") >= 0]

    def stop(self):
        """Stops daemon and zygotes; returns what is wrong, if anything. A daemon may be about to start, by the starter
        that the last cold run left behind."""
        procs.wait_gone([pid for pid in procs.belonging_to(self.dir) if procs.comm(pid) == "warmpy"], 15)
        if not os.path.exists(os.path.join(self.rundir, "daemon.sock")):
            return []
        stopped = self.ctl("stop")
        return [] if stopped.status == 0 else [f"warmctl stop: {stopped}"]

    def close(self, check=True):
        wrong = []
        for process in self.processes:
            if process.result is None:
                procs.kill([process.pid])
                try:
                    process.finish(10)
                except (AssertionError, ChildProcessError):
                    pass  # it is said already; this is only to tidy up
        if check:
            wrong += self.stop()
        left = procs.wait_gone(procs.belonging_to(self.dir), 10 if check else 0)
        left += procs.wait_gone(procs.belonging_to(self.dir), 0)
        wrong += [f"left running: {procs.describe(pid)}" for pid in left]
        procs.kill(left)
        if os.path.isdir(self.rundir) and not os.path.islink(self.rundir):
            files = set(os.listdir(self.rundir)) - LEFT_IN_RUNDIR
            wrong += [f"left in the runtime directory: {name}" for name in sorted(files)]
        if "Sanitizer" in self.log() or "Assertion" in self.log():
            wrong.append(self.log()[-6000:])
        log = self.log()
        shutil.rmtree(self.dir, ignore_errors=True)
        leaked = {fd: name for fd, name in procs.open_fds().items() if fd not in self.fds_before}
        wrong += [f"leaked in the test itself: {fd} {name}" for fd, name in leaked.items()]
        assert not (check and not STANDIN and wrong), "\n".join(wrong) + f"\nlog: {log[-3000:]}"


def compare(want, got):
    """What differs between two Results, as text; "" when nothing does."""
    if (want.kind, want.value) != (got.kind, got.value):
        return f"status: python {want.kind} {want.value}, warmpy {got.kind} {got.value}"
    for name, left, right in (("stdout", want.out, got.out), ("stderr", want.err, got.err)):
        if left != right and ADDRESS.sub(b"0x?", left or b"") != ADDRESS.sub(b"0x?", right or b""):
            return f"{name}: " + first_difference(left or b"", right or b"")
    return ""


def first_difference(left, right):
    at = next((i for i, pair in enumerate(zip(left, right)) if pair[0] != pair[1]), min(len(left), len(right)))
    return (f"lengths {len(left)} and {len(right)}, first difference at byte {at}:\n"
            f"  python {left[max(0, at - 60):at + 200]!r}\n  warmpy {right[max(0, at - 60):at + 200]!r}")


def readable(fd, seconds):
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def write(path, text, mode=0o644):
    """Writes a file (text or bytes) and returns its path."""
    with open(path, "wb") as file:
        file.write(text.encode() if isinstance(text, str) else text)
    os.chmod(path, stat.S_IMODE(mode))
    return path
