"""A runtime directory that cannot be used: the program runs, as python runs it, with at most one clear line."""

import os
import shutil
import socket
import stat
import subprocess
import sys

import pytest
import peers
from harness import STANDIN, compare, write


def assert_runs_cold(warm, **how):
    """The program's own result, and nothing else on stderr but perhaps one line of ours."""
    args = ["-c", "import sys; print('out'); print('err', file=sys.stderr); sys.exit(5)"]
    want = warm.run_python(args, **how)
    for _ in range(2):
        got = warm.run(args, **how)
        assert (got.kind, got.value, got.out) == (want.kind, want.value, want.out), got
        ours = got.err.replace(want.err, b"", 1)
        assert got.err.endswith(want.err) and (not ours or ours.startswith(b"warmpy: ") and ours.count(b"\n") == 1), got
        assert not got.warm


def assert_ctl_says(warm, *words):
    """warmctl fails with one line that names the object."""
    for args in (["start", "name", "--preload", "json"], ["warm"]):
        result = warm.ctl(*args)
        assert STANDIN or (result.status == 1 and result.err.count(b"\n") == 1), (args, result)
        for word in words:
            assert STANDIN or word.encode() in result.err, (args, word, result)


def test_is_a_file(warm):
    write(warm.rundir, "not a directory", 0o600)
    assert_runs_cold(warm)
    assert_ctl_says(warm, warm.rundir)
    os.remove(warm.rundir)


def test_is_a_symlink(warm):
    """Even to a directory of ours: somebody else may have put it there."""
    os.mkdir(f"{warm.dir}/real", 0o700)
    os.symlink("real", warm.rundir)
    assert_runs_cold(warm)
    assert_ctl_says(warm, warm.rundir)
    assert os.listdir(f"{warm.dir}/real") == []
    os.remove(warm.rundir)


def test_is_a_dangling_symlink(warm):
    os.symlink("nowhere", warm.rundir)
    assert_runs_cold(warm)
    assert not os.path.exists(f"{warm.dir}/nowhere")
    os.remove(warm.rundir)


def test_is_a_fifo(warm):
    os.mkfifo(warm.rundir)
    assert_runs_cold(warm)
    assert_ctl_says(warm, warm.rundir)
    os.remove(warm.rundir)


@pytest.mark.parametrize("mode", [0o755, 0o777, 0o770, 0o701, 0o1777])
def test_is_open_to_others(warm, mode):
    os.mkdir(warm.rundir)
    os.chmod(warm.rundir, mode)
    assert_runs_cold(warm)
    assert_ctl_says(warm, warm.rundir)
    assert os.listdir(warm.rundir) == []


def test_is_owned_by_somebody_else(warm, as_root):
    os.mkdir(warm.rundir, 0o700)
    os.chown(warm.rundir, 65534, 65534)
    assert_runs_cold(warm)
    assert_ctl_says(warm, warm.rundir)
    assert os.listdir(warm.rundir) == []


def test_is_unreadable(warm, unprivileged):
    """Owned by us, but without any permission: only root would not notice."""
    unprivileged(warm)
    os.mkdir(warm.rundir, 0o700)
    os.chown(warm.rundir, *warm.identity)
    for mode in (0, 0o100, 0o200, 0o400, 0o500):
        os.chmod(warm.rundir, mode)
        assert_runs_cold(warm)
    os.chmod(warm.rundir, 0o700)


@pytest.mark.parametrize("value", ["relative/path", "", "/", "/proc/self/fd", "/dev/null/x", "/nonexistent/a/b", "x" * 200,
                                   "/tmp/" + "long" * 30, "/tmp/" + "x" * 300, "/proc", "//", "/tmp/../tmp/.", "~"])
def test_is_nonsense(warm, value):
    env = {"WARMFORK_RUNTIME_DIR": value, "XDG_RUNTIME_DIR": "/nonexistent/xdg"}
    if value == "":  # as if it were not set: then XDG_RUNTIME_DIR counts
        env["XDG_RUNTIME_DIR"] = f"/tmp/{'y' * 100}"
    assert_runs_cold(warm, env=env)


LONGEST = 68  # sockaddr_un.sun_path has 108 bytes; our longest name needs the rest


def test_longest_path_that_fits(warm):
    path = warm.dir + "/" + "r" * (LONGEST - len(warm.dir) - 1)
    warm.environment["WARMFORK_RUNTIME_DIR"] = warm.rundir = path
    warm.ready()
    warm.same(["-c", "print('fits')"])


def test_one_more_does_not(warm):
    path = warm.dir + "/" + "r" * (LONGEST + 1 - len(warm.dir) - 1)
    assert_runs_cold(warm, env={"WARMFORK_RUNTIME_DIR": path})


def test_xdg_runtime_dir(warm):
    del warm.environment["WARMFORK_RUNTIME_DIR"]
    os.mkdir(warm.rundir, 0o700)
    warm.environment["XDG_RUNTIME_DIR"] = warm.rundir
    warm.rundir += "/warmfork"
    warm.ready()
    assert os.path.exists(warm.rundir + "/daemon.sock") or STANDIN


def test_missing_parents_are_not_made(warm):
    assert_runs_cold(warm, env={"WARMFORK_RUNTIME_DIR": f"{warm.dir}/a/b/c"})
    assert not os.path.exists(f"{warm.dir}/a")


@pytest.mark.parametrize("name", ["daemon.sock", "daemon.lock", "daemon.log", "zygotes"])
@pytest.mark.parametrize("kind", ["directory", "fifo", "symlink", "file"])
def test_names_inside_are_taken(warm, name, kind):
    """Something else lies where a file of ours should be: cold at worst, and never followed or waited for."""
    os.mkdir(warm.rundir, 0o700)
    path = f"{warm.rundir}/{name}"
    {"directory": os.mkdir, "fifo": os.mkfifo, "file": lambda p: write(p, "text"),
     "symlink": lambda p: os.symlink(f"{warm.dir}/elsewhere", p)}[kind](path)
    for i in range(4):
        result = warm.run(["-c", f"print({i})"])
        assert (result.out, result.err, result.status) == (b"%d\n" % i, b"", 0)
    result = warm.ctl("start", "name", "--preload", "json", timeout=45)
    assert result.status in (0, 1)
    assert not os.path.exists(f"{warm.dir}/elsewhere")
    if os.path.lexists(path) and kind != "file" and not STANDIN:
        warm.ctl("stop")
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        elif os.path.lexists(path):
            os.remove(path)
    elif name == "daemon.sock" and os.path.isfile(path):
        os.remove(path)


FOREIGN = """
import os, socket, sys
path, uid = sys.argv[1], int(sys.argv[2])
s = socket.socket(socket.AF_UNIX); s.bind(path); os.chmod(path, 0o666)
os.setresuid(uid, uid, uid)
s.listen(50)
print('listening', flush=True)
while True:
    c, _ = s.accept()
    c.settimeout(20)
    got = c.recv(100)
    print('got', got, flush=True)
    c.close()
"""


@pytest.mark.parametrize("name", ["daemon.sock", "run"])
def test_socket_of_another_user(warm, as_root, name):
    """The directory is ours, the listener is not: nothing is told to it."""
    warm.ready()
    route = next((n for n in os.listdir(warm.rundir) if n.endswith(".0")), "x.0") if not STANDIN else "x.0"
    if not STANDIN:
        assert warm.ctl("stop").status == 0
    os.makedirs(warm.rundir, 0o700, exist_ok=True)
    path = f"{warm.rundir}/{name if name != 'run' else route}"
    foreign = subprocess.Popen([sys.executable, "-c", FOREIGN, path, "65534"], stdout=subprocess.PIPE)
    try:
        assert foreign.stdout.readline() == b"listening\n"
        if name == "daemon.sock":
            assert_runs_cold(warm)
        result = warm.run(["-c", "print('mine')"])
        assert (result.out, result.err, result.status) == (b"mine\n", b"", 0)
        warm.ctl("status")
    finally:
        foreign.kill()
        said = foreign.stdout.read()
        foreign.wait()
        foreign.stdout.close()
    assert set(said.splitlines()) <= {b"got b''"}, said
    warm.ready()  # whoever owned the names before, they are ours again


def test_daemon_accepts_only_its_user(warm, as_root):
    """A connection of another uid, made through a descriptor of the directory: closed without an answer."""
    if STANDIN:
        return
    warm.ready()
    os.chmod(warm.rundir, 0o711)
    for name in os.listdir(warm.rundir):
        if stat_is_socket(f"{warm.rundir}/{name}"):
            os.chmod(f"{warm.rundir}/{name}", 0o666)
    os.chmod(warm.dir, 0o755)
    program = """
import socket, sys, struct
for path in sys.argv[1:]:
    s = socket.socket(socket.AF_UNIX); s.settimeout(20)
    s.connect(path)
    try:
        s.sendall(struct.pack('<IHHIHH', 0x4b464d57, 1, 6, 8, 0, 0) + struct.pack('<II', 1, 0))
        print(s.recv(100))
    except (BrokenPipeError, ConnectionResetError):
        print(b'')
"""
    paths = [f"{warm.rundir}/{name}" for name in os.listdir(warm.rundir) if stat_is_socket(f"{warm.rundir}/{name}")]
    other = subprocess.run(["/usr/bin/python3", "-c", program, *paths], capture_output=True, timeout=100, user=65534)
    assert set(other.stdout.split()) == {b"b''"} and not other.stderr, other
    os.chmod(warm.rundir, 0o700)
    assert warm.run(["-c", "print(1)"]).out == b"1\n"
    assert warm.status()


def stat_is_socket(path):
    return stat.S_ISSOCK(os.lstat(path).st_mode)


def test_nobody_listens(warm):
    """Sockets without a listener, under the very names that are looked for."""
    warm.ready()
    if STANDIN:
        return
    names = [n for n in os.listdir(warm.rundir) if n.endswith((".0", ".ctl", ".sock"))]
    assert warm.ctl("stop").status == 0
    for name in names:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(f"{warm.rundir}/{name}")
    assert warm.run(["-c", "print(1)"]).out == b"1\n"
    warm.ready()


def test_full_backlog(warm):
    """Somebody of our own uid listens and never accepts: the wait is bounded."""
    warm.ready()
    if STANDIN:
        return
    route = next(n for n in os.listdir(warm.rundir) if n.endswith(".0"))
    assert warm.ctl("stop").status == 0
    path = f"{warm.rundir}/{route}"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        sock.listen(0)
        waiting = [peers.connect(path, 5)]
        result = warm.run(["-c", "print('anyway')"])
        assert (result.out, result.err, result.status) == (b"anyway\n", b"", 0)
        for each in waiting:
            each.close()
    warm.ready()


def test_compare_helper_sees_differences():
    """The harness itself: a difference in any part is found."""
    from harness import Result
    base = Result("exit", 0, b"out", b"err", True)
    assert not compare(base, Result("exit", 0, b"out", b"err", False))
    for other in (Result("exit", 1, b"out", b"err", True), Result("signal", 0, b"out", b"err", True),
                  Result("exit", 0, b"oux", b"err", True), Result("exit", 0, b"out", b"", True)):
        assert compare(base, other)
