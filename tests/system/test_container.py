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
WHERE = container.__file__
SHOW = ("import os, subprocess, threading\n"
        "print(*(line for line in open('/proc/self/status') if line.startswith(('Seccomp', 'NoNewPrivs'))))\n"
        "try: print(os.listdir('/proc/1/root'))\nexcept OSError as error: print(error)\n"
        "thread = threading.Thread(target=print, args=('thread',)); thread.start(); thread.join()\n"
        "print(subprocess.run(['sh', '-c', 'echo $0 child; exit 3']))\n"
        "try: os.unshare(0x20000)\nexcept (OSError, AttributeError) as error: print(error)\n")
# Runs both ways until the second is warm; says what it found.
COMPARE = """
import os, subprocess, sys, time
python, warmpy, *args = sys.argv[1:]
cold = subprocess.run([python, *args], capture_output=True)
deadline, why = time.monotonic() + 30, b""
while b"warm: " not in why and time.monotonic() < deadline:
    warm = subprocess.run([warmpy, *args], capture_output=True)
    assert (warm.returncode, warm.stdout, warm.stderr) == (cold.returncode, cold.stdout, cold.stderr), (cold, warm)
    why = subprocess.run([warmpy, *args], capture_output=True, env={**os.environ, "WARMFORK_DEBUG": "why"}).stderr
    time.sleep(.01)
os.write(2, why)
os.write(1, cold.stdout)
"""


def contained(warm, *argv):
    """What the command does in a container."""
    made = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if subprocess.run([*made, "true"], capture_output=True).returncode != 0:
        pytest.skip("no new pid namespace may be made here")
    return warm.spawn([*made, sys.executable, WHERE, *argv]).finish()


@pytest.mark.every_python
def test_warm(warm):
    compare = write(f"{warm.work}/compare.py", COMPARE)
    result = contained(warm, warm.python, compare, warm.python, warm.warmpy, "-c", SHOW)
    assert result.status == 0 and b"Seccomp_filters:\t1\n" in result.out and b"thread\n" in result.out, result
    assert b"warm: " in result.err or STANDIN, result


def test_one_filter_more_is_not_the_container(warm):
    """The same number of filters in two processes says nothing where the first process has fewer."""
    more = write(f"{warm.work}/more.py", f"import os, sys\nsys.path[0] = {os.path.dirname(WHERE)!r}\nimport container\n"
                                         "container.confine([])\nos.execv(sys.argv[1], sys.argv[1:])")
    compare = write(f"{warm.work}/compare.py", COMPARE)
    ask = [warm.warmpy, "-c", "print(open('/proc/self/status').read().count('Seccomp_filters:\\t2\\n'))"]
    result = contained(warm, warm.python, "-c", "import subprocess, sys\n"
                       f"subprocess.run([sys.executable, {compare!r}, {warm.python!r}, {warm.warmpy!r}, '-c', 'print(0)'], check=True)\n"
                       f"subprocess.run([sys.executable, {more!r}, *{ask!r}], check=True, env=dict({warm.env()!r}, WARMFORK_DEBUG='why'))")
    assert result.status == 0 and result.out == b"0\n1\n", result
    assert b"cold: a seccomp filter of its own" in result.err or STANDIN, result


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
