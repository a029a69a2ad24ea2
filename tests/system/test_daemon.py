"""The daemon and warmctl: starting, telling, ending, and being handed a socket."""

import json
import os
import socket
import stat
import subprocess

import procs
import pytest
from harness import STANDIN, readable, write
from watch import Watch

pytestmark = pytest.mark.skipif(STANDIN, reason="needs the real binaries")


def test_without_a_daemon(warm):
    """Asking does not start one; everything answers at once, with one clear line."""
    for args in (["status"], ["status", "--json"], ["stop"], ["logs"]):
        result = warm.ctl(*args)
        assert result.status in (0, 1), result
        assert (result.out + result.err).count(b"\n") <= 1 or args[-1] == "--json", result
        assert result.out or result.err, (args, result)
    assert warm.daemons() == []


def test_help_and_version(warm):
    for args in (["--help"], ["--version"], ["start", "--help"]):
        result = warm.ctl(*args)
        assert result.status == 0 and result.out and not result.err
    for option in ("--warmfork-help", "--warmfork-version"):
        result = warm.run([option])
        assert result.status == 0 and b"warmpy" in result.out


def test_status(warm):
    warm.ready()
    served = sum(zygote["served"] for zygote in warm.status()["zygotes"])
    for i in range(5):
        assert warm.run(["-c", "pass"]).warm
    state = warm.until(lambda: (s := warm.status()) and sum(z["served"] for z in s["zygotes"]) >= served + 5 and s)
    assert state["daemon"]["pid"] == warm.daemons()[0]
    zygote = state["zygotes"][0]
    assert zygote["state"] == "ready" and zygote["python"] == warm.python and zygote["pid"] in warm.zygotes()
    text = warm.ctl("status")
    assert text.status == 0 and b"ready" in text.out and text.err == b""


def test_running_programs_are_counted(warm):
    warm.ready()
    process = warm.start(["-c", "print('up', flush=True); input()"], stdin=subprocess.PIPE)
    assert readable(process.stdout.fileno(), 30)
    warm.until(lambda: any(zygote["running"] for zygote in warm.status()["zygotes"]))
    process.finish()
    warm.until(lambda: not any(zygote["running"] for zygote in warm.status()["zygotes"]))


def test_logs(warm):
    warm.ready()
    result = warm.ctl("logs")
    assert result.status == 0 and b"started" in result.out and b"ready" in result.out
    assert warm.ctl("logs", "-n", "1").out.count(b"\n") == 1


def test_stop(warm):
    warm.ready()
    mine = procs.belonging_to(warm.dir)
    assert warm.ctl("stop").status == 0
    assert procs.wait_gone(mine, 10) == []
    assert not os.path.exists(f"{warm.rundir}/daemon.sock")
    warm.ctl("stop")
    warm.ready()


def test_stop_lets_running_programs_finish(warm):
    warm.ready()
    process = warm.start(["-c", "print('up', flush=True); print(input()); raise SystemExit(5)"], stdin=subprocess.PIPE)
    assert process.line() == b"up\n"
    assert warm.ctl("stop").status == 0
    assert process.popen.poll() is None
    process.stdin.write(b"after the stop\n")
    process.stdin.flush()
    result = process.finish()
    assert (result.status, result.out) == (5, b"after the stop\n")


def test_runs_while_stopping(warm):
    """Whatever moment a stop comes at, every run ends with its own status."""
    for _ in range(3):
        warm.ready()
        processes = [warm.start(["-c", f"import sys; print({i}); sys.exit({i})"]) for i in range(10)]
        stop = warm.spawn([f"{warm.bin}/warmctl", "stop"])
        processes += [warm.start(["-c", f"import sys; print({i}); sys.exit({i})"]) for i in range(10, 20)]
        stop.finish()
        for i, process in enumerate(processes):
            result = process.finish()
            assert (result.status, result.out, result.err) == (i, b"%d\n" % i, b"")


def test_idle_exit(warm):
    """With nothing to do for WARMFORK_IDLE seconds, daemon and zygotes are gone, and the next run starts anew."""
    warm.environment["WARMFORK_IDLE"] = "1"
    for _ in range(2):
        warm.ready()
        mine = procs.belonging_to(warm.dir)
        assert mine and procs.wait_gone(mine, 40) == []
        assert warm.run(["-c", "print(1)"]).out == b"1\n"


def test_idle_daemon_does_not_end_running_programs(warm):
    warm.environment["WARMFORK_IDLE"] = "1"
    warm.ready()
    process = warm.start(["-c", "import time; time.sleep(4); print('finished'); raise SystemExit(6)"])
    result = process.finish()
    assert (result.status, result.out) == (6, b"finished\n")


def test_where_it_lives(warm):
    """In /, in a session of its own, with no descriptor, limit or signal of its starter."""
    read, hold = os.pipe()

    def before():
        os.dup2(hold, 77)
        os.dup2(hold, 9)

    warm.ready(before=before)
    warm.until(lambda: warm.daemons())
    os.close(hold)
    for pid in [*warm.daemons(), *warm.zygotes()]:
        assert procs.link(f"/proc/{pid}/cwd") == "/"
        for fd in os.listdir(f"/proc/{pid}/fd"):
            assert procs.link(f"/proc/{pid}/fd/{fd}") != f"pipe:[{os.fstat(read).st_ino}]", (procs.describe(pid), fd)
        for fd in (0, 1):
            assert procs.link(f"/proc/{pid}/fd/{fd}") == "/dev/null"
    assert os.getsid(warm.daemons()[0]) != os.getsid(0)
    assert readable(read, 5) and os.read(read, 1) == b"", "somebody still holds the caller's pipe"
    os.close(read)


def test_modes_of_what_it_makes(warm):
    warm.ready(before=lambda: os.umask(0))
    assert stat.S_IMODE(os.stat(warm.rundir).st_mode) == 0o700
    for name in os.listdir(warm.rundir):
        assert stat.S_IMODE(os.lstat(f"{warm.rundir}/{name}").st_mode) & 0o077 == 0, name


def launcher(path, extra=""):
    """A shell program that hands over a listening socket as systemd does: descriptor 3, and its own pid."""
    return ["/bin/sh", "-c", f'LISTEN_PID=$$ LISTEN_FDS=1 {extra} exec "$@"', "launcher", path]


def listening(warm):
    os.makedirs(warm.rundir, 0o700, exist_ok=True)
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(f"{warm.rundir}/daemon.sock")
    sock.listen(64)
    return sock


def test_socket_activation(warm):
    with listening(warm) as sock:
        daemon = warm.spawn([*launcher(f"{warm.bin}/warmforkd"), "--foreground"], before=lambda: os.dup2(sock.fileno(), 3))
    warm.until(lambda: warm.ctl("status").status == 0)
    assert warm.status()["daemon"]["pid"] == daemon.pid
    warm.ready()
    assert warm.daemons() == [daemon.pid]
    assert warm.ctl("stop").status == 0
    assert daemon.finish(20).status == 0
    if os.path.exists(f"{warm.rundir}/daemon.sock"):  # it belongs to systemd
        os.remove(f"{warm.rundir}/daemon.sock")


def test_socket_activation_with_early_clients(warm):
    """Clients that came before the daemon are answered by it, not by a second one."""
    with listening(warm) as sock:
        first = warm.spawn([f"{warm.bin}/warmctl", "status", "--json"])
        daemon = warm.spawn([*launcher(f"{warm.bin}/warmforkd"), "--foreground"], before=lambda: os.dup2(sock.fileno(), 3))
    result = first.finish()
    assert result.status == 0 and json.loads(result.out)["daemon"]["pid"] == daemon.pid
    assert warm.ctl("stop").status == 0
    daemon.finish(20)
    if os.path.exists(f"{warm.rundir}/daemon.sock"):
        os.remove(f"{warm.rundir}/daemon.sock")


@pytest.mark.parametrize("extra", ["LISTEN_FDS=0", "LISTEN_FDS=x", "LISTEN_PID=1", "LISTEN_FDS=99999999"])
def test_handed_over_nonsense(warm, extra):
    """No socket there, or not for us: an ordinary daemon, or one clear line; never a hang."""
    daemon = warm.spawn([*launcher(f"{warm.bin}/warmforkd", extra), "--foreground"])
    with Watch(warm.dir, warm.rundir) as watch:
        while not os.path.exists(f"{warm.rundir}/daemon.sock") and procs.alive(daemon.pid):
            watch.wait(1)
    if procs.alive(daemon.pid):
        assert warm.ctl("stop").status == 0
    daemon.finish(20)


def test_second_daemon_gives_way(warm):
    warm.ready()
    first = warm.daemons()
    second = warm.spawn([f"{warm.bin}/warmforkd", "--foreground"]).finish(20)
    assert second.status is not None and warm.daemons() == first
    assert warm.run(["-c", "pass"]).warm


@pytest.mark.parametrize("args", [["--unknown"], ["--idle"], ["--idle", "x"], ["extra"], ["--log-level", "shout"]])
def test_daemon_usage(warm, args):
    result = warm.spawn([f"{warm.bin}/warmforkd", "--foreground", *args]).finish(20)
    assert result.status not in (0, None) and result.err, result


def test_stale_sockets_of_a_dead_daemon(warm):
    """What a crashed machine leaves behind: sockets nobody listens on, a lock nobody holds, odd files."""
    os.mkdir(warm.rundir, 0o700)
    for name in ("daemon.sock", "0123456789abcdef0123456789abcdef.0", "0123456789abcdef0123456789abcdef.0.ctl"):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(f"{warm.rundir}/{name}")
    write(f"{warm.rundir}/daemon.lock", "")
    warm.ready()
    assert len(warm.daemons()) == 1


def test_log_is_kept_small_or_rotated(warm):
    write_to = f"{warm.rundir}/daemon.log"
    os.mkdir(warm.rundir, 0o700)
    write(write_to, "old line\n" * 2_000_000, 0o600)
    warm.ready()
    assert os.path.getsize(write_to) < 19_000_000


def test_removed_runtime_directory(warm):
    """`rm -rf` under a living daemon: programs run, and nothing is left for ever."""
    warm.environment["WARMFORK_IDLE"] = "2"
    warm.ready()
    mine = procs.belonging_to(warm.dir)
    os.rename(warm.rundir, warm.rundir + ".gone")
    assert warm.run(["-c", "print(1)"]).out == b"1\n"
    warm.ready()
    assert procs.wait_gone(mine, 60) == [], "the old daemon never noticed"


def test_no_zombies(warm):
    warm.ready()
    for _ in range(20):
        warm.run(["-c", "pass"])
    daemons = set(warm.daemons())

    def zombies():
        found = []
        for name in os.listdir("/proc"):
            state = procs.stat(name) if name.isdigit() else None
            if state and state[1] == "Z" and state[2] in daemons | set(warm.zygotes()):
                found.append(name)
        return found

    warm.until(lambda: not zombies())
