"""A first run, which is cold, is not slowed down by what is warmed up for the next ones: that waits for its end."""

import signal
import subprocess

import pytest
from harness import STANDIN, readable

pytestmark = pytest.mark.skipif(STANDIN, reason="needs the real binaries")

UP = "import os, sys; print(os.getpid(), flush=True); sys.stdin.read()"


def first_run(warm, **how):
    """A program that runs, cold, and asked a daemon for a zygote."""
    warm.ready(options=["-B"])
    process = warm.start(["-c", UP], stdin=subprocess.PIPE, **how)
    assert readable(process.stdout.fileno(), 30)
    assert int(process.line()) == process.popen.pid, "a cold run is the client's own process"
    return process


def mine(warm):
    """What the daemon has beside the zygote for -B."""
    return [zygote for zygote in warm.status()["zygotes"] if zygote["options"] != "-B"]


def states(warm):
    return sorted(zygote["state"] for zygote in mine(warm))


@pytest.mark.parametrize("preload", [None, "json,decimal"])
def test_warming_up_waits_for_the_first_run(warm, preload):
    env = {"WARMFORK_PRELOAD": preload} if preload else {}
    process = first_run(warm, env=env)
    zygotes = warm.zygotes()
    state = warm.until(lambda: mine(warm))
    assert [z["state"] for z in state] == ["held"] and warm.zygotes() == zygotes
    assert str(process.popen.pid) in state[0]["why"]
    assert b"held" in warm.ctl("status").out
    assert process.finish().status == 0
    warm.until(lambda: set(states(warm)) == {"ready"})
    assert warm.run(["-c", "print(1)"], env=env).warm


def test_killed_first_run(warm):
    process = first_run(warm)
    warm.until(lambda: states(warm) == ["held"])
    process.send(signal.SIGKILL)
    process.finish()
    warm.until(lambda: states(warm) == ["ready"])


def test_somebody_else_asks(warm):
    """A server that is the first program of its context must not keep all others cold."""
    process = first_run(warm)
    warm.until(lambda: states(warm) == ["held"])
    warm.ready()
    process.finish()


def test_a_person_waits(warm):
    process = first_run(warm, env={"WARMFORK_PRELOAD": "json"})
    warm.until(lambda: states(warm) == ["held"])
    assert warm.ctl("start", "named", "--preload", "json").status == 0
    assert "ready" in states(warm)
    process.finish()


def test_long_first_run(warm):
    """After a while it is clear that nobody will notice."""
    process = first_run(warm)
    warm.until(lambda: states(warm) == ["held"])
    warm.until(lambda: states(warm) == ["ready"], seconds=30)
    process.finish()


def test_stop_while_held(warm):
    process = first_run(warm)
    warm.until(lambda: states(warm) == ["held"])
    assert warm.ctl("stop").status == 0
    process.finish()
    assert warm.daemons() == []


def test_the_daemon_waits_as_well(warm):
    """The very first run: not even a daemon is started beside it."""
    process = warm.start(["-c", UP], stdin=subprocess.PIPE)
    assert readable(process.stdout.fileno(), 30)
    assert warm.daemons() == []
    process.finish()
    warm.until(lambda: warm.daemons() and states(warm) == ["ready"])
