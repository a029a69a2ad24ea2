"""When the machine has nothing left to give: no disk, no processes, no descriptors, no memory, no python."""

import ctypes
import os
import resource
import shutil
import subprocess

import procs
import pytest
from harness import STANDIN, libc, readable, write

CLONE_NEWNS = 0x00020000


@pytest.mark.parametrize("path", ["/nonexistent/bin/python3", "/dev/null", "/", "/etc/passwd", "relative/python3"])
def test_python_that_does_not_exist(warm, path):
    """127 (126 when it is there but cannot be run), as a shell has it, and one line that names it."""
    result = warm.run(["-c", "print(1)"], env={"WARMFORK_PYTHON": path})
    assert result.status in (126, 127) and result.out == b"", result
    assert result.err.count(b"\n") == 1 and path.encode() in result.err and result.err.startswith(b"warmpy: "), result


def test_no_python_anywhere(warm):
    if STANDIN:
        return
    env = {"WARMFORK_PYTHON": None, "PATH": "/nonexistent", "VIRTUAL_ENV": None}
    copy = f"{warm.work}/bin"
    os.mkdir(copy)
    shutil.copy(os.path.realpath(warm.warmpy), f"{copy}/warmpy")
    result = warm.spawn([f"{copy}/warmpy", "-c", "print(1)"], env=env).finish()
    assert result.status == 127 and result.err.count(b"\n") == 1 and b"python3" in result.err, result


def test_python_by_name(warm):
    """WARMFORK_PYTHON may be a name that PATH has."""
    name = os.path.basename(os.path.realpath(warm.python))
    env = {"WARMFORK_PYTHON": name, "PATH": f"{os.path.dirname(os.path.realpath(warm.python))}:/usr/bin:/bin"}
    if not STANDIN:
        assert warm.run(["-c", "import sys; print(sys.version_info[:3])"], env=env).out == \
            warm.run_python(["-c", "import sys; print(sys.version_info[:3])"]).out


def test_python_that_is_a_script(warm):
    """A wrapper (pyenv's shims are such) cannot be warmed, and works."""
    wrapper = write(f"{warm.work}/python-wrapper", f'#!/bin/sh\nexec {warm.python} "$@"\n', 0o755)
    for _ in range(2):
        result = warm.run(["-c", "print('wrapped')"], env={"WARMFORK_PYTHON": wrapper})
        assert (result.out, result.err, result.status) == (b"wrapped\n", b"", 0)


def test_python_that_disappears(warm):
    """The interpreter is removed under a warm zygote: as without warmfork, it is not found any more."""
    venv = f"{warm.work}/venv"
    assert warm.run_python(["-m", "venv", "--without-pip", "--copies", venv]).status == 0
    env = {"WARMFORK_PYTHON": f"{venv}/bin/python3"}
    warm.ready(env=env)
    shutil.rmtree(venv)
    result = warm.run(["-c", "print(1)"], env=env)
    assert STANDIN or result.status in (126, 127), result


def test_interpreter_that_is_not_python(warm):
    """/bin/echo as an interpreter: it answers for itself, and its zygote is not tried for ever."""
    for _ in range(4):
        result = warm.run(["-c", "pass"], env={"WARMFORK_PYTHON": "/bin/echo"})
        assert (result.out, result.err, result.status) == (b"-c pass\n", b"", 0)


class OwnMounts:
    """A mount namespace with a small tmpfs on the runtime directory; `here` makes a child enter it."""

    def __init__(self, warm, options):
        os.mkdir(warm.rundir, 0o700)
        script = f'mount -t tmpfs -o mode=700,{options} none "{warm.rundir}" && echo mounted && exec cat'
        self.holder = subprocess.Popen(["unshare", "-m", "--propagation", "private", "/bin/sh", "-c", script],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.holder.stdout.readline() == b"mounted\n"
        self.work = warm.work
        self.rundir = f"/proc/{self.holder.pid}/root{warm.rundir}"

    def here(self):
        fd = os.open(f"/proc/{self.holder.pid}/ns/mnt", os.O_RDONLY)
        if libc.setns(fd, CLONE_NEWNS) != 0:
            raise OSError(ctypes.get_errno(), "setns")
        os.close(fd)
        os.chdir(self.work)

    def fill(self):
        with open(f"{self.rundir}/fill", "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass

    def close(self):
        self.holder.stdin.close()
        self.holder.stdout.close()
        self.holder.wait()


@pytest.fixture
def mounts(warm, as_root):
    made = []

    def make(options):
        made.append(OwnMounts(warm, options))
        return made[0]

    yield make
    for each in made:
        warm.ctl("stop", before=each.here)
        assert procs.wait_gone([pid for pid in procs.belonging_to(warm.dir) if procs.comm(pid) == "warmforkd"], 10) == []
        each.close()


@pytest.mark.parametrize("options", ["size=16k", "size=64k,nr_inodes=2", "size=64k,nr_inodes=4", "size=64k,nr_inodes=5"])
def test_full_disk(warm, mounts, options):
    """No room for the log, the lock or the sockets: programs run."""
    own = mounts(options)
    own.fill()
    for i in range(6):
        result = warm.run(["-c", f"print({i})"], before=own.here)
        assert (result.out, result.err, result.status) == (b"%d\n" % i, b"", 0)
    result = warm.ctl("start", "name", "--preload", "json", before=own.here, timeout=45)
    assert STANDIN or result.status == 0 or result.err.count(b"\n") <= 2, result


def test_disk_that_fills_up_later(warm, mounts):
    own = mounts("size=256k")
    warm.ready(before=own.here)
    own.fill()
    for options in ([], ["-B"], ["-O"]):
        warm.same([*options, "-c", "print('full')"], before=own.here, warm=None)


def test_read_only_disk(warm, mounts):
    own = mounts("size=64k,ro")
    for _ in range(3):
        result = warm.run(["-c", "print('ro')"], before=own.here)
        assert (result.out, result.err, result.status) == (b"ro\n", b"", 0)


def test_other_mount_namespace(warm, as_root):
    """A zygote of one namespace never serves a program of another, whose files may be others."""
    warm.ready()
    script = f'mount --bind "{warm.home}" "{warm.work}" && echo mounted && exec cat'
    holder = subprocess.Popen(["unshare", "-m", "--propagation", "private", "/bin/sh", "-c", script],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"mounted\n"
    write(f"{warm.work}/where.txt", "outside")
    write(f"{warm.home}/where.txt", "inside")
    with open(f"/proc/{holder.pid}/ns/mnt") as namespace:
        def enter():
            libc.setns(namespace.fileno(), CLONE_NEWNS)
            os.chdir(warm.work)

        for _ in range(3):
            result = warm.run(["-c", "print(open('where.txt').read())"], before=enter)
            assert (result.out, result.err, result.status) == (b"inside\n", b"", 0)
            assert warm.run(["-c", "print(open('where.txt').read())"]).out == b"outside\n"
    holder.stdin.close()
    holder.stdout.close()
    holder.wait()


def lowered(which, value):
    return lambda: resource.setrlimit(which, (value, value))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_no_more_processes(warm, unprivileged, count):
    """RLIMIT_NPROC: nothing can be forked for the user; the program itself needs no fork."""
    unprivileged(warm)
    warm.identity = (warm.identity[0] + 1000 + os.getpid() % 10000 if os.geteuid() == 0 else warm.identity[0], warm.identity[1])
    if os.geteuid() == 0:
        for path in (warm.dir, warm.home, warm.work):
            os.chown(path, *warm.identity)
    for i in range(3):
        result = warm.run(["-c", f"print({i})"], before=lowered(resource.RLIMIT_NPROC, count))
        assert (result.out, result.err, result.status) == (b"%d\n" % i, b"", 0)
    result = warm.ctl("start", "name", "--preload", "json", before=lowered(resource.RLIMIT_NPROC, 1), timeout=45)
    assert STANDIN or result.status == 1 and result.err.count(b"\n") == 1, result


@pytest.mark.parametrize("count", [4, 5, 6, 8, 10, 12, 16])
def test_few_descriptors(warm, count):
    """RLIMIT_NOFILE: too few for our own needs is not too few for the program."""
    program = "import os; print(os.open('/dev/null', 0))"
    warm.ready()
    warm.same(["-c", program], before=lowered(resource.RLIMIT_NOFILE, count), warm=None)


def test_little_memory(warm):
    """RLIMIT_AS so low that only python itself fits."""
    for megabytes in (40, 60, 120, 300):
        limit = lowered(resource.RLIMIT_AS, megabytes << 20)
        want = warm.run_python(["-c", "print('fits')"], before=limit)
        if want.status == 0:
            warm.same(["-c", "print('fits')"], before=limit, warm=None)
    warm.same(["-c", "try: bytearray(1 << 30)\nexcept MemoryError: print('no memory')"],
              before=lowered(resource.RLIMIT_AS, 500 << 20), warm=None)


def test_daemon_without_descriptors(warm):
    """A daemon and zygotes that were started with a small limit do not pass it on to programs, and serve many."""
    warm.ready(before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
    warm.same(["-c", "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE))"], warm=None)
    processes = [warm.start(["-c", f"print({i})"]) for i in range(80)]
    for i, process in enumerate(processes):
        assert process.finish().out == b"%d\n" % i


def test_fork_that_fails_in_the_zygote(warm, unprivileged):
    """The user's processes are used up while a zygote is warm: runs go on, warm or cold."""
    unprivileged(warm)
    if os.geteuid() == 0:
        warm.identity = (70000 + os.getpid() % 10000, warm.identity[1])
        for path in (warm.dir, warm.home, warm.work):
            os.chown(path, *warm.identity)
    warm.ready()
    lower = "import resource, sys\nfor pid in sys.argv[1:]: resource.prlimit(int(pid), resource.RLIMIT_NPROC, (1, 1))"
    pids = map(str, [*warm.zygotes(), *warm.daemons()])
    lowered = warm.run_python(["-c", lower, *pids])
    assert lowered.status == 0, lowered
    for i in range(12):
        result = warm.run(["-c", f"print({i})"])
        assert (result.out, result.err, result.status) == (b"%d\n" % i, b"", 0)


def test_no_proc(warm, as_root):
    """Without /proc, what must be measured cannot be: the program runs cold."""
    program = "import os; print(os.path.exists('/proc/self'))"
    hide = ["unshare", "-m", "--propagation", "private", "/bin/sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]
    for _ in range(2):
        result = warm.spawn([*hide, warm.warmpy, "-c", program]).finish()
        assert (result.out, result.err, result.status) == (b"False\n", b"", 0)


def test_missing_installation(warm):
    """warmpy alone, copied to where nothing else of warmfork is: python, cold."""
    os.mkdir(f"{warm.work}/alone")
    shutil.copy(os.path.realpath(warm.warmpy), f"{warm.work}/alone/warmpy")
    for _ in range(2):
        result = warm.spawn([f"{warm.work}/alone/warmpy", "-c", "print('alone')"]).finish()
        assert (result.out, result.err, result.status) == (b"alone\n", b"", 0)


def test_standard_streams_of_a_daemon_started_without_any(warm):
    """The first warmpy of all has 0, 1 and 2 closed: the daemon's files do not land there."""
    warm.run(["-c", "pass"], close=(0, 1, 2))
    warm.ready()
    for pid in warm.daemons():
        assert procs.link(f"/proc/{pid}/fd/0") == "/dev/null"


def test_nothing_is_printed_where_the_program_prints(warm):
    """A broken installation's complaint goes to stderr, never into the program's output."""
    process = warm.start(["-c", "print('only this')"], env={"WARMFORK_ZYGOTE": "no-such"})
    assert readable(process.stdout.fileno(), 30)
    assert process.finish().out == b"only this\n"
