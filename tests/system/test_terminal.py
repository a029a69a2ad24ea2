"""A program and its terminal: what it is told of it, what it writes, and the groups and sessions it is in. Each scenario under
python3 itself, and under warmpy, where it must have run warm and must look the same."""

import os
import re

import pytest

from harness import write
from shells import PROMPT
from term import Terminal


def test_controlling_terminal(start):
    """/dev/tty opens, and the program is in its foreground."""
    s = start()
    s.start("""
        import os
        print(os.isatty(0), os.tcgetpgrp(0) == os.getpgrp())
        tty = os.open("/dev/tty", os.O_RDWR)
        print(os.tcgetpgrp(tty) == os.getpgrp(), os.path.samestat(os.stat(os.ttyname(0)), os.fstat(0)))
        os.write(tty, b"written\\n")
    """)
    s.t.expect("True True\r\nTrue True\r\nwritten\r\n" + PROMPT)
    assert s.t.modes() == s.modes


@pytest.mark.parametrize("before", ["pass", "os.tcgetpgrp(0)", "os.get_terminal_size()"])
def test_output_alone_is_untouched(start, before):
    """What just prints has the caller's terminal itself, and so has what asks who is in the foreground."""
    s = start()
    s.start(f"import os; {before}; print(os.ttyname(1), 'a\\r\\nb\\tc')")
    s.t.expect(re.escape(f"{s.t.name} a\r\r\nb\tc\r\n") + PROMPT)


WHO = """
import fcntl, os, signal, struct, sys, termios, time
while not os.path.exists("go"): time.sleep(0.01)
shell = int(sys.argv[1])
def asked(request): return struct.unpack("i", fcntl.ioctl(1, request, bytes(4)))[0]
def show(): print(os.tcgetpgrp(1) == os.getpgrp(), os.tcgetpgrp(1) == shell, asked(termios.TIOCGPGRP) == os.tcgetpgrp(1),
                  asked(0x5429) == os.getsid(0), flush=True)
show()
if len(sys.argv) > 2: os.system(":")
show()
os._exit(0)
"""


@pytest.mark.parametrize("child", ["", " child"])
@pytest.mark.parametrize("place", ["", " &"], ids=["foreground", "background"])
def test_who_is_in_the_foreground(start, place, child):
    """The program's group, or its shell's; the same answer by each way to ask, and before and after it has a terminal of its own
    (which its first child gives it)."""
    s = start()
    s.start(WHO, f"$P p.py $${child}{place}")
    s.t.until(lambda: bool(place) == (s.t.foreground() == s.t.pid))
    write(os.path.join(s.warm.work, "go"), "")
    for _ in range(2):
        s.t.expect("False True True True\r\n" if place else "True False True True\r\n")


def test_output_of_children(start):
    """Newlines become what the terminal makes of them, once."""
    s = start()
    s.start(r"""
        import subprocess, sys
        print("one\r\ntwo\rthree", flush=True)
        subprocess.run(["printf", r"four\r\n\nfive\r"])
        subprocess.run(["sh", "-c", "stty -opost; printf 'six\\n'; stty opost; printf 'end\\n'"])
    """)
    s.t.expect(re.escape("one\r\r\ntwo\rthree\r\nfour\r\r\n\r\nfive\rsix\nend\r\n") + PROMPT)


def test_all_output_is_there(start):
    """Of the program, and of a child that has written a lot just before the end."""
    s = start()
    s.start("import os\nos.system('seq 1 20000')\nprint('end')")
    s.t.expect("\r\n20000\r\nend\r\n" + PROMPT)
    numbers = re.findall(r"(?<=\n)(\d+)(?=\r\n)", s.t.text)
    assert numbers == [str(n) for n in range(1, 20001)]


def test_window_size(start):
    s = start(size=(20, 70))
    s.start("""
        import os, signal, time
        seen = []
        signal.signal(signal.SIGWINCH, lambda *a: print("now", *os.get_terminal_size(0), flush=True))
        print("up", *os.get_terminal_size(0), flush=True)
        time.sleep(0.2)
        os.system("stty size; echo child")
        while True: time.sleep(0.1)
    """)
    s.t.expect("up 70 20\r\n")
    s.t.expect("20 70\r\nchild\r\n")
    s.t.resize(33, 99)
    s.t.expect("now 99 33\r\n")
    s.t.type("\x03")


def test_without_controlling_terminal(start):
    """setsid: the terminal is there, but nobody's."""
    s = start()
    s.start("""
        import os
        print(os.isatty(0))
        try: os.open("/dev/tty", os.O_RDWR)
        except OSError as e: print(e)
        try: os.tcgetpgrp(0)
        except OSError as e: print(e)
    """, "setsid -w $P p.py")
    s.t.expect(re.escape("True\r\n[Errno 6] No such device or address: '/dev/tty'\r\n[Errno 25] Inappropriate ioctl for device"))


def test_two_at_once(start):
    """Programs that share a terminal, as under make -j, do not leave it in each other's modes."""
    s = start()
    s.start("""
        import os, sys, time
        for i in range(20): os.system(f"echo {sys.argv[1]} {i}")
    """, "$P p.py a & WARMFORK_DEBUG= $P p.py b; wait; echo do''ne")
    s.t.expect("done\r\n")
    for name in "ab":
        assert re.findall(f"{name} ([0-9]+)\r\n", s.t.text) == [str(n) for n in range(20)]
    s.prompt()
    assert s.t.modes() == s.modes


def test_terminal_that_no_stream_is(start):
    """stdin, stdout and stderr are files: the terminal is there all the same, for the program and its children."""
    s = start()
    write(os.path.join(s.warm.work, "p.py"), """
import getpass, os, subprocess
word = getpass.getpass("Word: ")
answer = subprocess.run(["sh", "-c", "printf 'Name: ' >/dev/tty; read x </dev/tty; echo $x"], capture_output=True, text=True)
print(word[::-1], answer.stdout)
""")
    s.t.type("$P p.py </dev/null >out 2>err; cat out err\r")
    s.t.expect("Word: ")
    s.t.until(lambda: not s.t.is_cooked())
    s.t.type("secret\r")
    s.t.expect("Name: ")
    s.t.until(s.t.is_cooked)
    s.t.type("joe\r")
    s.t.expect("terces joe\r\n")
    s.prompt()
    assert "secret" not in s.t.text and ("warm: " in s.t.text) == (s.python == s.warm.warmpy)


@pytest.mark.parametrize("line", ["$P p.py", "setsid -w $P p.py", "sh -c '$P p.py; :'"], ids=["job", "setsid", "script"])
def test_groups_and_sessions(start, line):
    """A shell's job leads its group, what a script runs does neither, setsid's program leads both: some calls fail."""
    s = start()
    s.start("""
        import os
        for call in os.setpgrp, lambda: os.setpgid(0, 0), os.setsid, lambda: os.setpgid(0, 1), os.setsid:
            try: print("fine", call() or "")
            except OSError as e: print(e.errno)
        print(os.getpgrp() == os.getpid())
    """, line)
    want = {"$P p.py": "fine fine 1 1 1", "setsid -w $P p.py": "1 1 1 1 1"}.get(line, "fine fine 1 1 1")
    s.t.expect(r" ?\r\n".join(want.split()) + "\r\nTrue\r\n")


def test_setsid_of_what_leads_nothing(start):
    """It succeeds, once, and there is no terminal any more."""
    s = start()
    s.start("""
        import os
        os.system(":")
        print(os.setsid())
        try: os.open("/dev/tty", os.O_RDWR)
        except OSError as e: print(e)
        try: os.setsid()
        except OSError as e: print(e)
    """, "sh -c '$P p.py; :'")
    s.t.expect(re.escape("None\r\n[Errno 6] No such device or address: '/dev/tty'\r\n[Errno 1] Operation not permitted\r\n"))


@pytest.mark.parametrize("command", ["python3", "warmpy"])
def test_without_a_shell(warm, command):
    """The leader of the session itself, as in a container: nobody could continue it, so Ctrl-Z does nothing."""
    command = warm.warmpy if command == "warmpy" else warm.python
    env = warm.env({"TERM": "xterm"})
    warm.ready(env=env)
    program = "import os; print(os.tcgetpgrp(0) == os.getpgrp(), flush=True); os.system('echo child'); print('got', input())"
    with Terminal([command, "-c", program], env=env, cwd=warm.work) as t:
        t.expect("True\r\nchild\r\n")
        t.type("x\x1ay\r")
        t.expect("got y\r\n")
        assert t.wait() == 0
