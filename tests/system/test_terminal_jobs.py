"""Jobs of real shells: keys that make signals, stops, foreground and background, hang-up. Under python3 and under warmpy."""

import os
import re
import signal

import pytest

import procs
from harness import write
from shells import PROMPT, SHELLS


@pytest.mark.parametrize("shell", SHELLS)
def test_interrupt(start, shell):
    """Ctrl-C reaches the program and its child, and the shell learns of it."""
    s = start(shell)
    s.start("""
        import subprocess
        subprocess.run(["sh", "-c", "trap 'echo child; exit 1' INT; echo up; while :; do sleep 0.1; done"])
    """)
    s.t.expect("up\r\n")
    s.t.type("\x03")
    s.t.expect("child\r\n")
    s.t.expect("KeyboardInterrupt")
    s.prompt()
    s.t.type("echo status $?\r")
    s.t.expect("status 130\r\n")


def test_quit(start):
    """Ctrl-\\ kills both."""
    s = start()
    s.start("import subprocess; subprocess.run(['sh', '-c', 'echo up $$; exec sleep 60'])")
    pid = int(s.t.expect(r"up (\d+)\r\n")[1])
    s.t.type("\x1c")
    s.prompt()
    s.t.type("echo status $?\r")
    s.t.expect("status 131\r\n")
    assert not procs.wait_gone([pid], 10)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
@pytest.mark.parametrize("child", [False, True])
def test_suspend_and_resume(start, shell, child):
    """Ctrl-Z, jobs, bg, fg: the program is stopped and goes on, and so does its child."""
    s = start(shell)
    wait = "os.system('echo child; read x </dev/tty; echo got $x')" if child else "print('got', input('child\\n'))"
    s.start(f"import os\nprint('up', os.getpid(), flush=True)\n{wait}\nprint('end')")
    pid = int(s.t.expect(r"up (\d+)\r\nchild\r\n")[1])
    s.t.type("\x1a")
    s.t.expect("(?i)stopped|suspended")
    s.prompt()
    s.t.until(lambda: all(state(one) == "T" for one in (pid, *procs.children(pid))))  # else the child may still read a letter
    s.t.type("jobs\r")
    s.t.expect("(?i)stopped|suspended")
    s.prompt()
    s.t.type("fg\r")
    s.t.expect("p.py")
    s.t.until(lambda: procs.stat(pid)[1] != "T")
    s.t.type("word\r")
    s.t.expect("got word\r\nend\r\n")
    s.prompt()
    assert s.t.modes() == s.modes


def test_stop_while_a_child_is_made(start):
    """Ctrl-Z at any moment while the program gets its own terminal and that its keeper. (Not by posix_spawn: a child that is
    stopped before its exec holds its parent up, and the shell waits, under python too.)"""
    s = start()
    for i in range(20):
        s.start(f"""
            import os, time
            print("up", flush=True)
            time.sleep({i} * 0.0002)
            if os.fork() == 0: os._exit(0)
            while not os.path.exists("go{i}"): time.sleep(0.01)
            print("end")
        """)
        s.t.expect("up\r\n")
        s.t.type("\x1a")
        s.t.expect("Stopped")
        s.prompt()
        write(os.path.join(s.warm.work, f"go{i}"), "")
        s.t.type("fg\r")
        s.t.expect("\r\nend\r\n")
        s.prompt()


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_self_stop(start, shell):
    """A program that stops itself is seen to be stopped."""
    s = start(shell)
    s.start("import os, signal\nos.open('/dev/tty', os.O_RDWR)\nos.kill(0, signal.SIGTSTP)\nprint('end')")
    s.t.expect("(?i)stopped|suspended")
    s.prompt()
    s.t.type("fg\r")
    s.t.expect("\r\nend\r\n")


@pytest.mark.parametrize("child", [False, True])
def test_background_reader_is_stopped(start, child):
    s = start()
    wait = "os.system('read x; echo got $x')" if child else "print('got', input())"
    s.start(f"import os\nprint('up', os.getpid(), flush=True)\n{wait}", "$P p.py &")
    pid = int(s.t.expect(r"up (\d+)\r\n")[1])
    job = int(re.search(r"\[1\] (\d+)\r\n", s.t.text)[1])
    s.t.until(lambda: procs.stat(job)[1] == procs.stat(pid)[1] == "T")
    s.t.type("\r")
    s.t.expect("Stopped")
    s.t.type("fg\r")
    s.t.expect("p.py")
    s.t.until(lambda: procs.stat(pid)[1] != "T")
    s.t.type("word\r")
    s.t.expect("got word\r\n")


@pytest.mark.parametrize("child", [False, True])
@pytest.mark.parametrize("tostop", [False, True])
def test_background_writer(start, child, tostop):
    """Writes, unless the terminal is set so that it must not."""
    s = start()
    s.t.type(f"stty {'' if tostop else '-'}tostop\r")
    s.prompt()
    does = "os.system('echo out\"\"put')" if child else "print('out' + 'put', flush=True)"
    # It speaks up through a file: what it prints may be what stops it.
    write(os.path.join(s.warm.work, "pid"), "")
    write(os.path.join(s.warm.work, "p.py"), f"import os\nopen('pid', 'w').write(f'{{os.getpid()}}\\n')\n{does}")
    s.t.type("WARMFORK_DEBUG= $P p.py &\r")
    if not tostop:
        s.t.expect("output\r\n")
        return
    pid = int(s.t.until(lambda: procs.read(os.path.join(s.warm.work, "pid")).decode()))
    s.t.until(lambda: procs.stat(pid)[1] == "T")
    assert "output" not in s.t.text
    s.t.type("fg\r")
    s.t.expect("output\r\n")


@pytest.mark.parametrize("cbreak", [False, True])
def test_the_rest_of_a_pipeline_is_interrupted(start, cbreak):
    s = start()
    write(os.path.join(s.warm.work, "other.py"),
          "import os, signal, time\nsignal.signal(2, lambda *a: (os.write(2, b'other\\n'), os._exit(0)))\n"
          "open('there', 'w')\nwhile True: time.sleep(0.01)")
    s.start(f"""
        import os, time
        os.system("{'stty cbreak' if cbreak else ':'} </dev/tty")
        while not os.path.exists("there"): time.sleep(0.01)
        print("up", flush=True)
        while True: time.sleep(0.01)
    """, "$O other.py | $P p.py; stty sane")
    s.t.expect("up\r\n")
    if cbreak:
        s.t.until(lambda: not s.t.modes()[3] & 2)
    s.t.type("\x03")
    s.t.expect("KeyboardInterrupt|other")
    s.t.expect("KeyboardInterrupt|other")


def test_pipeline_is_stopped_as_a_whole(start):
    s = start()
    s.start("import os, sys, time\nos.system('echo up >&2')\ntime.sleep(1)\nprint('end')", "sleep 1 | $P p.py | cat")
    s.t.expect("up\r\n")
    s.t.type("\x1a")
    s.t.expect("Stopped")
    s.prompt()
    s.t.type("fg\r")
    s.t.expect("\r\nend\r\n")


def test_child_that_goes_on(start):
    """A child in the background may write when the program is gone already; and is not hung up."""
    s = start()
    s.start("""
        import subprocess
        child = subprocess.Popen(["sh", "-c", "sleep 0.5; echo la''te; sleep 0.2; echo la''ter"])
        print("end", child.pid)
    """)
    pid = int(s.t.expect(r"end (\d+)\r\n" + PROMPT)[1])
    s.t.expect("late\r\nlater\r\n")
    assert not procs.wait_gone([pid], 10)


@pytest.mark.parametrize("child", [False, True])
def test_hang_up(start, child):
    """The terminal goes away: SIGHUP, also for the child."""
    s = start()
    s.start(f"import os, time\nprint('up', os.getpid(), flush=True)\n{'os.system(%r)' % 'echo $$; exec sleep 60' if child else ''}\n"
            "time.sleep(60)")
    pids = [int(s.t.expect(r"up (\d+)\r\n")[1])]
    if child:
        pids.append(int(s.t.expect(r"(\d+)\r\n")[1]))
    s.t.hang_up()
    assert not procs.wait_gone(pids, 10)


def test_nohup(start):
    s = start()
    write(os.path.join(s.warm.work, "p.py"),
          "import os, time\nos.system('echo child')\nprint('up', os.getpid(), flush=True)\ntime.sleep(0.5)\nprint('end')")
    s.t.type("nohup $P p.py >out 2>err </dev/null &\r")
    out = os.path.join(s.warm.work, "out")
    pid = int(s.t.until(lambda: re.search(rb"up (\d+)\n", procs.read(out) if os.path.exists(out) else b""))[1])
    s.t.hang_up()
    assert not procs.wait_gone([pid], 10)
    assert procs.read(out).endswith(b"end\n")


@pytest.mark.parametrize("end", ["os._exit(3)", "os.kill(os.getppid(), 15)", "sys.exit(3)"])
def test_child_is_not_hung_up(start, end):
    """Whatever ends the program, a child that it left behind goes on."""
    s = start()
    s.start(f"""
        import os, subprocess, sys, time
        child = subprocess.Popen(["sh", "-c", "trap 'echo hung up' HUP; sleep 0.5; echo la''te"])
        print("up", child.pid, flush=True)
        {"time.sleep(60)" if "kill" in end else end}
    """)
    pid = int(s.t.expect(r"up (\d+)\r\n")[1])
    if "kill" in end:
        os.kill(s.client(), signal.SIGTERM)
    s.prompt()
    s.t.expect("late\r\n")
    assert "hung up" not in s.t.text and not procs.wait_gone([pid], 10)


def state(pid):
    return procs.stat(pid)[1]


def go(session):
    """Lets a program that waits for this file go on."""
    write(os.path.join(session.warm.work, "go"), "")


# What it has done with the terminal before: nothing, what needs none of its own, what does, and a keeper as well.
USES = {"nothing": "", "asks": "os.tcgetpgrp(0)", "opens": "os.open('/dev/tty', os.O_RDWR)", "child": "os.system(':')"}
WAIT = "while not os.path.exists('go'): time.sleep(0.01)"


@pytest.mark.parametrize("shell", ["bash", "zsh"])
@pytest.mark.parametrize("use", USES, ids=USES)
def test_put_into_the_background(start, shell, use):
    """bg: it goes on and writes, is stopped when it reads, and gets its line after fg; whatever it has done with the
    terminal before."""
    s = start(shell)
    s.start(f"""
        import os, time
        {USES[use]}
        print("up", os.getpid(), flush=True)
        {WAIT}
        print("in the back" + "ground", flush=True)
        print("got", input())
    """)
    pid, job = int(s.t.expect(r"up (\d+)\r\n")[1]), s.client()
    s.t.type("\x1a")
    s.t.expect("(?i)stopped|suspended")
    s.prompt()
    s.t.until(lambda: state(pid) == "T")
    s.t.type("bg\r")
    s.prompt()
    s.t.until(lambda: state(pid) != "T")
    go(s)
    s.t.expect("in the background\r\n")
    s.t.until(lambda: state(pid) == state(job) == "T")
    s.t.type("jobs\r")
    s.t.expect(r"(?i)stopped|suspended \(tty input\)")
    s.prompt()
    s.t.type("fg\r")
    s.t.expect("p.py")
    s.t.until(lambda: state(pid) != "T")
    s.t.type("word\r")
    s.t.expect("got word\r\n")
    s.prompt()
    assert s.t.modes() == s.modes


def test_writer_put_into_the_background(start):
    """With tostop, which may have been set while it was stopped, it is stopped again when it writes."""
    s = start()
    s.start(f"""
        import os, time
        os.system(":")
        print("up", os.getpid(), flush=True)
        {WAIT}
        print("out" + "put", flush=True)
    """)
    pid = int(s.t.expect(r"up (\d+)\r\n")[1])
    s.t.type("\x1a")
    s.t.expect("Stopped")
    s.prompt()
    s.t.type("stty tostop\r")
    s.prompt()
    s.t.type("bg\r")
    s.prompt()
    s.t.until(lambda: state(pid) != "T")
    go(s)
    s.t.until(lambda: state(pid) == "T")
    assert "output" not in s.t.text
    s.t.type("fg\r")
    s.t.expect("output\r\n")


@pytest.mark.parametrize("call", ["os.kill(os.getpid(), signal.SIGTSTP)", "os.kill(0, signal.SIGTSTP)",
                                  "signal.raise_signal(signal.SIGTSTP)", "os.killpg(os.getpgrp(), signal.SIGTSTP)"])
def test_first_thing_is_to_stop(start, call):
    """Nothing was done with the terminal before."""
    s = start()
    s.start(f"import os, signal\n{call}\nprint('end')")
    s.t.expect("Stopped")
    s.prompt()
    s.t.type("fg\r")
    s.t.expect("\r\nend\r\n")


def test_handler_of_stops(start):
    """The way of editors: put things in order, stop by the default action, and put them back."""
    s = start()
    s.start("""
        import os, signal, time
        def stop(*_):
            os.write(1, b"stopping\\n")
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTSTP)
            signal.signal(signal.SIGTSTP, stop)
            os.write(1, b"going on\\n")
        signal.signal(signal.SIGTSTP, stop)
        print("up", os.tcgetpgrp(0) == os.getpgrp(), flush=True)
        while not os.path.exists("go"): time.sleep(0.01)
    """)
    s.t.expect("up True\r\n")
    for _ in range(2):
        s.t.type("\x1a")
        s.t.expect("stopping\r\n")
        s.t.expect("Stopped")
        s.prompt()
        s.t.type("fg\r")
        s.t.expect("going on\r\n")
    go(s)
    s.prompt()


@pytest.mark.parametrize("use", USES, ids=USES)
def test_stop_that_nobody_can_catch(start, use):
    """kill -STOP of what the shell started: the program is stopped, and goes on with it."""
    s = start()
    s.start(f"""
        import os, time
        {USES[use]}
        print("up", os.getpid(), flush=True)
        {WAIT}
        print("end")
    """)
    pid = int(s.t.expect(r"up (\d+)\r\n")[1])
    os.kill(s.client(), signal.SIGSTOP)
    s.t.expect("Stopped")
    s.prompt()
    s.t.until(lambda: state(pid) == "T")
    s.t.type("fg\r")
    s.t.until(lambda: state(pid) != "T")
    go(s)
    s.t.expect("\r\nend\r\n")
    s.prompt()
    assert s.t.modes() == s.modes
