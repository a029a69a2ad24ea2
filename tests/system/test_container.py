"""In a container every process runs under the container's seccomp filters: programs are warm there. One that has added a filter
of its own is no longer like the others, and runs cold."""

import os
import platform
import subprocess
import sys

import pytest
from harness import STANDIN, write

import container

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers in container.py are x86_64's")
SHOW = ("import os, subprocess, threading\n"
        "print(*(line for line in open('/proc/self/status') if line.startswith(('Seccomp', 'NoNewPrivs'))))\n"
        "try: print(os.listdir('/proc/1/root'))\nexcept OSError as error: print(error)\n"
        "thread = threading.Thread(target=print, args=('thread',)); thread.start(); thread.join()\n"
        "print(subprocess.run(['sh', '-c', 'echo $0 child; exit 3']))\n"
        "try: os.unshare(0x20000)\nexcept (OSError, AttributeError) as error: print(error)\n")
# The first process of its pid namespace: as a container's, under the filters that all others will have.
FIRST = """
import sys
sys.path[0] = {folder!r}
import container
container.confine()
from harness import Warm
user = Warm({bin!r}, {python!r})
try:
{test}
finally:
    user.close()
"""


def contained(warm, test):
    """Runs a test (its lines; `user` is a Warm, SHOW a program) in a container; returns what it printed."""
    made = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if subprocess.run([*made, "true"], capture_output=True).returncode != 0:
        pytest.skip("no new pid namespace may be made here")
    lines = [f"SHOW = {SHOW!r}", *test]
    text = FIRST.format(folder=os.path.dirname(container.__file__), bin=warm.bin, python=warm.python,
                        test="\n".join("    " + line for line in lines))
    env = {name: os.environ[name] for name in ("WARMFORK_TEST_WAIT", "WARMFORK_TEST_STANDIN") if name in os.environ}
    result = warm.spawn([*made, sys.executable, write(f"{warm.work}/first.py", text)], env=env).finish()
    assert (result.status, result.err) == (0, b""), result
    return result.out


@pytest.mark.every_python
def test_warm(warm):
    out = contained(warm, ["print(user.same(['-c', SHOW]).out.decode())"])
    assert b"Seccomp_filters:\t1\n" in out and b"thread\n" in out, out


def test_one_filter_more_is_not_the_container(warm):
    """The same number of filters in two processes says nothing where the first process has fewer."""
    out = contained(warm, ["user.same(['-c', SHOW])", "print(user.same(['-c', SHOW], warm=False, before=container.confine).out.decode())",
                           "print(user.run(['-c', ''], before=container.confine, env={'WARMFORK_DEBUG': 'why'}).err.decode())"])
    assert b"Seccomp_filters:\t2\n" in out, out
    assert b"cold: a seccomp filter of its own" in out or STANDIN, out


def test_filter_of_a_process(shared):
    """Outside of a container."""
    shared.same(["-c", SHOW], warm=False, before=container.confine)
    shared.same(["-c", SHOW])


def test_daemon_with_a_filter(warm):
    """What a confined daemon starts would be confined too: its zygotes do not serve, and say why."""
    daemon = warm.spawn([f"{warm.bin}/warmforkd", "--foreground"], before=container.confine)
    warm.until(lambda: os.path.exists(f"{warm.rundir}/daemon.sock"))
    for _ in range(3):
        warm.same(["-c", SHOW], warm=False)
    warm.until(lambda: "a seccomp filter of its own" in warm.log())
    daemon.send(15)
    daemon.finish()
