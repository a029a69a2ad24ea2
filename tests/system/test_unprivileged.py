"""Everything that matters, as an ordinary user; and users among themselves."""

import os
import stat

import procs
import pytest
from harness import STANDIN, write


@pytest.fixture
def user(warm, unprivileged):
    unprivileged(warm)
    return warm


def test_programs(user):
    script = write(f"{user.work}/script.py", "import sys, os; print(sys.argv, os.getuid(), os.getgid(), os.getgroups(), __name__)\n")
    user.same([script, "a", ""])
    user.same(["-c", "import os; print(os.getresuid(), os.getresgid(), os.getgroups(), os.environ['HOME'], os.getcwd())"])
    user.same(["-m", "json.tool"], input=b"[]")
    user.same(["-c", "raise SystemExit(3)"])
    user.same(["-c", "import os; os.abort()"])
    user.same(["-c", "open('/etc/shadow')"])


def test_killed_client_takes_its_program_along(user):
    """The kernel lets a process send signals to those of its own user: that is all that is needed."""
    user.ready()
    process = user.start(["-c", "import os, time; print(os.getpid(), flush=True); time.sleep(600)"])
    pid = int(process.line())
    process.send(9)
    assert procs.wait_gone([pid], 5) == []
    process.finish()


def test_signals(user):
    user.ready()
    process = user.start(["-c", "import signal, sys, time\nsignal.signal(15, lambda *a: sys.exit(9))\nprint('up', flush=True)\n"
                               "while True: time.sleep(0.01)"])
    assert process.line() == b"up\n"
    process.send(15)
    assert process.finish().status == 9


def test_named_zygote(user):
    if STANDIN:
        return
    assert user.ctl("start", "tools", "--preload", "json").status == 0
    result = user.run(["-c", "import sys; print('json' in sys.modules)"], env={"WARMFORK_ZYGOTE": "tools"})
    assert result.out == b"True\n" and result.warm


def test_processes_are_the_users_own(user):
    user.ready()
    for pid in procs.belonging_to(user.dir):
        assert os.stat(f"/proc/{pid}").st_uid in (user.identity[0], 0)  # 0: not dumpable
    for name in os.listdir(user.rundir):
        assert os.lstat(f"{user.rundir}/{name}").st_uid == user.identity[0]
        assert stat.S_IMODE(os.lstat(f"{user.rundir}/{name}").st_mode) & 0o077 == 0


@pytest.mark.parametrize("how", ["groups", "gid", "effective"])
def test_other_credentials_are_another_context(warm, as_root, how):
    """Supplementary groups, group id and effective ids are the program's own, however it is run."""
    change = {"groups": lambda: os.setgroups([1, 2, 3]), "gid": lambda: os.setgid(12), "effective": lambda: os.setegid(13)}[how]
    program = ["-c", "import os; print(os.getresuid(), os.getresgid(), os.getgroups())"]
    warm.same(program)
    warm.same(program, before=change, warm=None)
    warm.same(program)


def test_lowered_capabilities(warm, as_root):
    """setpriv --bounding-set/--no-new-privs: what the caller may not do, the program may not do."""
    show = ["-c", "print([l for l in open('/proc/self/status') if l[:3] in ('Cap', 'NoN')])"]
    warm.same(["-c", "pass"])
    for options in (["--no-new-privs"], ["--inh-caps=-all", "--bounding-set=-sys_admin"]):
        want = warm.spawn(["setpriv", *options, warm.python, *show]).finish()
        for _ in range(3):
            got = warm.spawn(["setpriv", *options, warm.warmpy, *show]).finish()
            assert (got.out, got.err, got.status) == (want.out, want.err, want.status)


def test_sudo_like_change_of_user(warm, unprivileged, as_root):
    """root's environment, runtime directory included, in the hands of another user: cold, and nothing is touched."""
    warm.ready()
    before = sorted(os.listdir(warm.rundir)) if os.path.isdir(warm.rundir) else []
    os.chmod(warm.dir, 0o755)
    python = warm.python
    unprivileged(warm)
    os.chown(warm.rundir, 0, 0) if os.path.isdir(warm.rundir) else None
    result = warm.run(["-c", "import os; print(os.getuid())"])
    assert (result.out, result.status) == (b"54321\n", 0), result
    warm.identity = None
    warm.python = warm.environment["WARMFORK_PYTHON"] = python
    assert not before or sorted(os.listdir(warm.rundir)) == before
