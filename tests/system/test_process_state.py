"""What a process inherits besides argv and environment: directory, umask, limits, priorities, signals, descriptors."""

import ctypes
import fcntl
import os
import resource
import shutil
import signal
import subprocess

import pytest
from harness import write

libc = ctypes.CDLL(None)


def in_child(*calls):
    """A `before` that makes the calls, each a tuple of function and arguments."""
    def run():
        for function, *args in calls:
            function(*args)
    return run


def test_cwd(shared):
    os.makedirs(f"{shared.work}/deep/er", exist_ok=True)
    show = "import os, sys; print(os.getcwd(), os.path.abspath('x'), sys.path[0], os.listdir('.'))"
    shared.same(["-c", show], cwd=f"{shared.work}/deep/er")
    shared.same(["-c", show], cwd="/")
    shared.same(["-c", "import os; os.chdir('..'); print(os.getcwd())"], cwd=f"{shared.work}/deep/er")


def test_cwd_through_symlink(shared):
    if not os.path.islink(f"{shared.work}/here"):
        os.symlink("/usr/bin", f"{shared.work}/here")
    program = "import os; print(os.getcwd(), os.environ.get('PWD'))"
    shared.same(["-c", program], cwd=f"{shared.work}/here", env={"PWD": f"{shared.work}/here"})


def test_cwd_deleted(shared):
    """A directory that no longer exists: `getcwd` fails in the same way, and everything else works."""
    program = """
import os, sys
print(sys.path[:1], sys.argv)
try:
    os.getcwd()
except FileNotFoundError as e:
    print(e)
import json
print(json.dumps([1]), os.stat('.').st_nlink)
"""
    path = f"{shared.work}/doomed"

    def how():
        os.makedirs(path, exist_ok=True)
        return {"cwd": path, "before": in_child((os.rmdir, path))}

    shared.same_as(lambda: ["-c", program], True, how)
    shared.same_as(lambda: ["missing.py"], None, how)
    shutil.rmtree(path, ignore_errors=True)


def test_cwd_without_permission(shared):
    """The directory is held open by inheritance only: it cannot be opened again by its name."""
    path = f"{shared.work}/closed"
    os.makedirs(path, exist_ok=True)
    shared.same(["-c", "import os; print(os.getcwd())"], cwd=path, before=in_child((os.chmod, path, 0)), warm=None)


@pytest.mark.parametrize("mask", [0, 0o022, 0o077, 0o777, 0o137])
def test_umask(shared, mask):
    program = "import os; m = os.umask(0); print(oct(m)); os.umask(m)"
    shared.same(["-c", program], before=in_child((os.umask, mask)))


def test_umask_of_created_files(shared):
    program = """
import os, sys
name = 'made-%d' % os.getpid()
open(name, 'w').close(); os.mkdir(name + 'd')
print(oct(os.stat(name).st_mode), oct(os.stat(name + 'd').st_mode))
os.remove(name); os.rmdir(name + 'd')
"""
    shared.same(["-c", program], before=in_child((os.umask, 0o027)))


LIMITS = sorted(name for name in dir(resource) if name.startswith("RLIMIT_") and name != "RLIMIT_OFILE")
SHOW_LIMITS = "import resource; print([(n, resource.getrlimit(getattr(resource, n))) for n in %r])" % LIMITS


def test_limits_as_they_are(shared):
    shared.same(["-c", SHOW_LIMITS])


@pytest.mark.parametrize("name,soft", [
    ("RLIMIT_CPU", 50), ("RLIMIT_FSIZE", 1 << 20), ("RLIMIT_DATA", 1 << 31), ("RLIMIT_STACK", 4 << 20),
    ("RLIMIT_STACK", 64 << 20), ("RLIMIT_CORE", 0), ("RLIMIT_NPROC", 5000), ("RLIMIT_NOFILE", 100),
    ("RLIMIT_NOFILE", 24), ("RLIMIT_MEMLOCK", 4096), ("RLIMIT_AS", 1 << 32), ("RLIMIT_SIGPENDING", 100),
    ("RLIMIT_MSGQUEUE", 1000), ("RLIMIT_NICE", 5), ("RLIMIT_RTPRIO", 1), ("RLIMIT_RSS", 1 << 32),
])
def test_each_limit(shared, name, soft):
    """Soft limits only, then hard ones too: both arrive, whether or not the run can be warm."""
    which = getattr(resource, name)
    hard = resource.getrlimit(which)[1]
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    shared.same(["-c", SHOW_LIMITS], before=in_child((resource.setrlimit, which, (soft, hard))), warm=None)
    shared.same(["-c", SHOW_LIMITS], before=in_child((resource.setrlimit, which, (soft, soft))), warm=None)
    shared.same(["-c", SHOW_LIMITS])


def test_lowered_soft_limit_is_warm(shared):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    lower = in_child((resource.setrlimit, resource.RLIMIT_NOFILE, (200, hard)))
    shared.same(["-c", SHOW_LIMITS], before=lower)


def test_file_size_limit_takes_effect(shared):
    program = "import os\ntry:\n  open('big', 'wb').write(b'x' * 100000)\nexcept OSError as e: print(e)\nos.remove('big')"
    limit = in_child((resource.setrlimit, resource.RLIMIT_FSIZE, (1000, 1000)))
    shared.same(["-c", program], before=limit, warm=None)


def test_cpu_limit_takes_effect(shared):
    """The seconds a zygote has used do not count, and the signal is the same."""
    limit = in_child((resource.setrlimit, resource.RLIMIT_CPU, (1, 2)))
    shared.same(["-c", "while True: pass"], before=limit, warm=None)


@pytest.mark.parametrize("nice", [1, 7, 19])
def test_nice(shared, nice):
    shared.same(["-c", "import os; print(os.nice(0))"], before=in_child((os.nice, nice)), warm=None)
    shared.same(["-c", "import os; print(os.nice(0))"])


BEFORE_EXEC = {
    "child": "sleep 0.1 & exec $P -c 'import os; print(os.wait()[1])'",
    "alarm": "exec perl -e 'alarm 60; exec @ARGV' $P -c 'import signal; print(signal.alarm(0) > 50)'",
    "alarm-cancelled": "exec perl -e 'alarm 1; exec @ARGV' $P -c 'import signal, time; signal.alarm(0); time.sleep(2)'",
    "service": "SYSTEMD_EXEC_PID=$$ exec $P -c 'import os; print(os.getpid() == int(os.environ[\"SYSTEMD_EXEC_PID\"]))'",
    "socket": "LISTEN_PID=$$ exec $P -c 'import os; print(os.getpid() == int(os.environ[\"LISTEN_PID\"]))'",
    "service-of-the-parent": "LISTEN_PID=$$ $P -c 'import os; print(os.getpid() == int(os.environ[\"LISTEN_PID\"]))'; :",
    "alarm-ends-it": "exec perl -e 'alarm 1; exec @ARGV' $P -c 'import time; time.sleep(60)'",
}


@pytest.mark.parametrize("name", BEFORE_EXEC)
def test_what_an_exec_leaves(shared, name):
    """Children and alarms of the process are there before the program is, and it may be the one that a variable names."""
    results = []
    shared.ready()
    for program in shared.python, shared.warmpy:
        done = subprocess.run(["sh", "-c", BEFORE_EXEC[name]], env=shared.env({"P": program}), capture_output=True)
        results.append((done.returncode, done.stdout, done.stderr))
    assert results[0] == results[1]


def test_children_of_the_shell(shared):
    """Those are no reason to run cold."""
    result = shared.until_warm(lambda: shared.run(["-c", "print(1)"]))
    done = subprocess.run(["bash", "-c", "sleep 0.1 & $P -c 'print(1)' <(echo); wait"], capture_output=True,
                          env=shared.env({"P": shared.warmpy, "WARMFORK_DEBUG": "why"}))
    assert done.stdout == result.out and b"warm: " in done.stderr, done


def test_login(shared):
    """os.getlogin() says who has logged in: root may be one or the other."""
    if not os.access("/proc/self/loginuid", os.W_OK) or os.getuid() != 0:
        pytest.skip("no audit system, or not root")

    def place():
        with open("/proc/self/loginuid", "w") as file:
            file.write("1")
    ask = ["-c", "import os\ntry: print(os.getlogin())\nexcept OSError as e: print(e)\nprint(open('/proc/self/loginuid').read())"]
    shared.same(ask)
    shared.same(ask, before=place, warm=None)


OOM = "import os; print(open('/proc/self/oom_score_adj').read(), os.system('cat /proc/self/oom_score_adj'))"


@pytest.mark.parametrize("value", [1, 300, 1000])
def test_oom_score_adj(shared, value):
    """How readily the kernel kills it when memory runs out, as systemd sets it for services and sessions."""
    def place():
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(str(value))
    shared.same(["-c", OOM], before=place)
    shared.same(["-c", OOM])


def test_affinity(shared):
    cpus = sorted(os.sched_getaffinity(0))
    program = "import os; print(sorted(os.sched_getaffinity(0)), os.cpu_count())"
    shared.same(["-c", program])
    for cpu in cpus[:2]:
        shared.same(["-c", program], before=in_child((os.sched_setaffinity, 0, {cpu})))
    shared.same(["-c", program])


def test_scheduling_class(shared):
    program = "import os; print(os.sched_getscheduler(0), os.sched_getparam(0).sched_priority)"
    shared.same(["-c", program])
    for policy in (os.SCHED_BATCH, os.SCHED_IDLE):
        change = in_child((os.sched_setscheduler, 0, policy, os.sched_param(0)))
        shared.same(["-c", program], before=change, warm=None)
    shared.same(["-c", program])


SIGNALS = """
import signal
numbers = [n for n in range(1, 65) if n not in (32, 33)]
print([(n, str(signal.getsignal(n))) for n in numbers if signal.getsignal(n) is not signal.SIG_DFL])
print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])), sorted(signal.sigpending()))
fields = dict(l.split(':') for l in open('/proc/self/status') if l[:3] in ('Sig', 'Shd'))
print(fields['SigBlk'], fields['SigIgn'], fields['SigCgt'])
"""


@pytest.mark.parametrize("numbers", [
    [], [signal.SIGHUP], [signal.SIGINT], [signal.SIGPIPE], [signal.SIGCHLD], [signal.SIGTERM, signal.SIGUSR1],
    [signal.SIGQUIT, signal.SIGINT], [signal.SIGRTMIN + 3],
], ids=repr)
def test_ignored_signals(shared, numbers):
    ignore = in_child(*((signal.signal, number, signal.SIG_IGN) for number in numbers))
    shared.same(["-c", SIGNALS], before=ignore)


@pytest.mark.parametrize("numbers", [
    [signal.SIGUSR1], [signal.SIGINT, signal.SIGTERM], [signal.SIGCHLD], [signal.SIGRTMIN + 1], range(1, 65),
], ids=repr)
def test_blocked_signals(shared, numbers):
    block = in_child((signal.pthread_sigmask, signal.SIG_BLOCK, numbers))
    shared.same(["-c", SIGNALS], before=block, warm=None)


def test_ignored_signal_of_a_child(shared):
    """nohup: what is ignored stays ignored for what the program runs."""
    program = "import subprocess; subprocess.run(['grep', 'SigIgn', '/proc/self/status'])"
    shared.same(["-c", program], before=in_child((signal.signal, signal.SIGHUP, signal.SIG_IGN)))


FDS = """
import os, stat
def show(fd):
    s = os.fstat(fd)
    return fd, stat.S_IFMT(s.st_mode), os.get_inheritable(fd)
found = []
for fd in range(3, 300):
    try:
        found.append(show(fd))
    except OSError:
        pass
print(found)
"""


def test_no_other_descriptors(shared):
    shared.same(["-c", FDS])
    shared.same(["-c", "import os; print(os.open('/dev/null', os.O_RDONLY), os.pipe())"])


def test_inherited_pipe(shared):
    """A pipe at 9, in both directions: what is written there arrives."""
    read, write = os.pipe()
    program = "import os; print(os.write(9, b'through the pipe')); " + FDS
    try:
        for _ in range(2):
            place = in_child((os.dup2, write, 9))
            shared.same(["-c", program], before=place)
        assert os.read(read, 1000).startswith(b"through the pipe")
    finally:
        os.close(read)
        os.close(write)


def test_inherited_memfd_and_gaps(shared):
    memfd = os.memfd_create("inherited")
    os.write(memfd, b"0123456789")
    program = "import os; print(os.pread(57, 4, 3), os.lseek(57, 0, 1), os.pread(200, 2, 0)); " + FDS

    def place():
        os.dup2(memfd, 57)
        os.dup2(memfd, 200)
    try:
        shared.same(["-c", program], before=place)
    finally:
        os.close(memfd)


@pytest.mark.parametrize("number", [3, 40, 100, 300])
def test_inherited_path(shared, number):
    """O_PATH: to poll() such a descriptor is closed."""
    def place():
        at = os.open("/", os.O_PATH)
        os.dup2(at, number, inheritable=True)
        if at != number:
            os.close(at)
    shared.same(["-c", f"import os; print(os.fstat({number}).st_ino); " + FDS], before=place, warm=None)
    shared.same(["-c", FDS])


HELD = ("import fcntl, os, sys\nfd = int(sys.argv[1])\nif not os.fork():\n    try: fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "    except OSError as error: print(error, flush=True)\n    else: print('free', flush=True)\n    os._exit(0)\nos.wait()")


@pytest.mark.parametrize("number", [0, 3, 300])
@pytest.mark.parametrize("kind", ["lockf", "flock", ""])
def test_inherited_lock(shared, number, kind):
    """Record locks are the process's, and an exec keeps them; those of flock() come along with the descriptor."""
    path = write(f"{shared.work}/locked", "")

    def place():
        at = os.open(path, os.O_RDWR)
        os.dup2(at, number, inheritable=True)
        os.close(at)  # which would let go of a record lock
        if kind:
            getattr(fcntl, kind)(number, fcntl.LOCK_EX)
    shared.same(["-c", HELD, str(number)], before=place, warm=kind != "lockf")


PR_SET_TIMERSLACK, PR_SET_MDWE = 29, 65


@pytest.mark.parametrize("option, value", [(PR_SET_TIMERSLACK, 1_000_000), (PR_SET_MDWE, 1)])
def test_inherited_rule(shared, option, value):
    """What prctl() sets, and fork and exec keep."""
    if libc.prctl(option + 1, 0, 0, 0, 0) < 0:
        pytest.skip("not known to this kernel")
    ask = ["-c", f"import ctypes; print(ctypes.CDLL(None).prctl({option + 1}, 0, 0, 0, 0))"]
    shared.same(ask, before=in_child((libc.prctl, option, value, 0, 0, 0)), warm=False)
    shared.same(ask)


def test_close_on_exec_is_not_inherited(shared):
    def place():
        os.dup2(1, 40, inheritable=False)
        os.dup2(1, 41, inheritable=True)
    shared.same(["-c", FDS], before=place)


def test_many_inherited_descriptors(shared):
    def place():
        for fd in range(20, 120):
            os.dup2(1, fd)
    shared.same(["-c", FDS], before=place)


def test_more_descriptors_than_a_message_takes(shared):
    def place():
        for fd in range(20, 290):
            os.dup2(1, fd)
    shared.same(["-c", FDS], before=place, warm=None)


def test_pipe_to_itself_ends(shared):
    """The write end at 9 is held by nobody else: when the program closes it, the reader sees the end."""
    program = """
import os
r, w = os.pipe()
pid = os.fork()
if pid == 0:
    os.close(w); data = os.read(r, 100) + os.read(r, 100); print(data, flush=True); os._exit(0)
os.close(r); os.write(w, b'x'); os.close(w); os.waitpid(pid, 0)
os.close(9); print('closed')
"""
    read, write = os.pipe()
    try:
        shared.same(["-c", program], before=in_child((os.dup2, write, 9)))
    finally:
        os.close(read)
        os.close(write)
