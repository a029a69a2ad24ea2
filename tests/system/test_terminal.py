"""A real terminal, real shells with job control, and programs in them: each scenario under python3 itself, and under
warmpy, where it must have run warm and must look the same."""

import importlib.util
import os
import re
import shutil
import signal
import sys
import textwrap

import pytest

import procs
from harness import write
from term import Terminal

SHELLS = {"bash": ["bash", "--norc", "--noediting", "-i"], "zsh": ["zsh", "-f", "-i", "-o", "no_zle", "-o", "no_prompt_sp"],
          "sh": ["sh", "-i"]}
PROMPT = r"\$ "


def needs(*commands):
    for command in commands:
        if shutil.which(command) is None:
            pytest.skip(f"no {command} here")


def with_module(name):
    """This interpreter, if it has that module."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{sys.executable} has no {name}")
    return sys.executable


class Session:
    """A shell in a terminal, in which `self.python` is what is tested."""

    def __init__(self, warm, python, shell, interpreter=None, **how):
        needs(shell)
        self.warm, self.python = warm, python
        self.env = warm.env({"PS1": "$ ", "TERM": "xterm", "WARMFORK_DEBUG": "why", "P": python, "O": warm.python, "EDITOR": None,
                             **({"WARMFORK_PYTHON": interpreter} if interpreter else {})})
        if interpreter and python != warm.warmpy:
            self.env["P"] = interpreter
        if python == warm.warmpy:
            warm.ready(env=self.env)
        self.t = Terminal(SHELLS[shell], env=self.env, cwd=warm.work, **how)
        self.prompt()
        self.modes = self.t.modes()

    def prompt(self):
        """Waits until the shell reads again: some throw away what was typed before."""
        self.t.expect(PROMPT)
        self.t.until(lambda: procs.read(f"/proc/{self.t.pid}/wchan") in (b"wait_woken", b"n_tty_read"))

    def start(self, program, line="$P p.py"):
        """Types a command line that runs `program`; the program is to say so once it is there."""
        write(os.path.join(self.warm.work, "p.py"), textwrap.dedent(program))
        self.t.type(line + "\r")
        if self.python == self.warm.warmpy:
            self.t.expect(r"warmpy: (warm|cold): .*?\n")
            assert "cold: " not in self.t.text, self.t.text

    def client(self):
        """The process that the shell started."""
        group = self.t.foreground()
        assert procs.ppid(group) == self.t.pid and procs.comm(group) in ("warmpy", "python3"), procs.describe(group)
        return group


@pytest.fixture(params=["python3", "warmpy"])
def start(request, warm):
    sessions = []

    def make(shell="bash", **how):
        session = Session(warm, warm.warmpy if request.param == "warmpy" else warm.python, shell, **how)
        sessions.append(session)
        return session

    yield make
    for session in sessions:
        session.t.close()


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


def test_output_alone_is_untouched(start):
    """What just prints has the caller's terminal itself."""
    s = start()
    s.start("import os; print(os.ttyname(1), 'a\\r\\nb\\tc')")
    s.t.expect(re.escape(f"{s.t.name} a\r\r\nb\tc\r\n") + PROMPT)


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
    s.t.until(lambda: procs.stat(pid)[1] == "T")
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


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_self_stop(start, shell):
    """A program that stops itself is seen to be stopped."""
    s = start(shell)
    s.start("import os, signal\nos.tcgetpgrp(0)\nos.kill(0, signal.SIGTSTP)\nprint('end')")
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


def test_getpass(start):
    """Nothing is echoed, and echo comes back."""
    s = start()
    s.start("import getpass; print(getpass.getpass('Word: ')[::-1])")
    s.t.expect("Word: ")
    s.t.until(lambda: not s.t.is_cooked())
    s.t.type("secret\r")
    s.t.expect("terces\r\n" + PROMPT)
    assert "secret" not in s.t.text
    assert s.t.modes() == s.modes


def test_getpass_with_other_stdio(start):
    """The terminal is asked although stdin and stdout are something else."""
    s = start()
    s.start("import getpass, sys; data = sys.stdin.read(); open('out', 'w').write(data + getpass.getpass('Word: '))",
            "echo data | $P p.py | cat")
    s.t.expect("Word: ")
    s.t.until(lambda: not s.t.is_cooked())
    s.t.type("secret\r")
    s.prompt()
    assert procs.read(os.path.join(s.warm.work, "out")) == b"data\nsecret"


def test_modes_that_a_program_sets_stay(start):
    s = start("sh")
    s.start("import os; os.system('stty -ixon intr ^X')", "$P p.py; stty -a; stty ixon intr ^C")
    s.t.expect(r"intr = \^X.* -ixon")
    s.prompt()
    assert s.t.modes() == s.modes


@pytest.mark.parametrize("end", ["pass", "os._exit(3)", "os.kill(os.getpid(), 9)", "os.abort()"])
def test_modes_however_it_ends(start, end):
    """A shell without job control leaves the terminal as the program did: raw here, whatever became of it."""
    s = start("sh")
    s.start(f"import os, tty\ntty.setcbreak(0)\nprint('up', flush=True)\nos.read(0, 1)\n{end}", "$P p.py; stty -a; stty sane")
    s.t.expect("up\r\n")
    s.t.until(lambda: not s.t.modes()[3] & 2)
    s.t.type("x")
    s.t.expect(r"\sopost .*\sisig -icanon .*\s-echo ")


def test_modes_when_the_client_is_killed(start):
    """kill -9 of what the shell started, with the terminal raw: as the program left it, and the program is gone."""
    s = start("sh")
    s.start("import os, tty\ntty.setcbreak(0)\nprint('up', os.getpid(), flush=True)\nos.read(0, 1)",
            "$P p.py; echo done")
    pid = int(s.t.expect(r"up (\d+)\r\n")[1])
    s.t.until(lambda: not s.t.modes()[3] & 2)
    os.kill(s.client(), signal.SIGKILL)
    s.t.expect("done\r?\n")
    assert not procs.wait_gone([pid], 10)
    s.t.until(lambda: s.t.modes()[1] & 1)  # output is processed: not the relay's modes
    assert not s.t.modes()[3] & 2


@pytest.mark.parametrize("child", ["time.sleep(0.5)", "os.system('sleep 0.5')",
                                   "subprocess.run(['sleep', '0.5'], capture_output=True)",
                                   "asyncio.run(asyncio.wait_for(asyncio.sleep(0.5), 9))"])
def test_typing_ahead(start, child):
    """What is typed while nobody reads is the shell's."""
    s = start()
    s.start(f"import asyncio, os, subprocess, time\nprint('up', flush=True)\n{child}\nprint('end')")
    s.t.expect("up\r\n")
    s.t.type("echo al''so\r")
    s.t.expect("end\r\n")
    s.t.expect("\nalso\r\n|also\r\n")


def test_typing_ahead_of_a_reader(start):
    """One line for the program, one for its child, the rest for the shell."""
    s = start()
    s.start("""
        import os, time
        print("up", flush=True)
        time.sleep(0.3)
        print("first", input())
        os.system("sleep 0.2; read x; echo second $x; sleep 0.2")
    """)
    s.t.expect("up\r\n")
    s.t.type("1\r2\recho thi''rd\r")
    s.t.expect("first 1\r\n")
    s.t.expect("second 2\r\n")
    s.t.expect("third\r\n")


def test_end_of_input(start):
    """Ctrl-D ends what reads, at the start of a line and behind a piece of one."""
    s = start()
    s.start("import os, sys\nos.tcgetpgrp(0)\nprint('up', flush=True)\nprint([os.read(0, 99) for i in range(3)])")
    s.t.expect("up\r\n")
    s.t.type("piece\x04")
    s.t.type("line\r")
    s.t.type("\x04")
    s.t.expect(re.escape(r"[b'piece', b'line\n', b'']"))


def test_control_characters_in_a_line(start):
    """Quoted keys (Ctrl-V) arrive as they are."""
    s = start()
    s.start("import os\nos.tcgetpgrp(0)\nprint('up', flush=True)\nprint(os.read(0, 99))")
    s.t.expect("up\r\n")
    s.t.type("a\x16\x03b\x16\x1ac\r")
    s.t.expect(re.escape(r"b'a\x03b\x1ac\n'"))


@pytest.mark.parametrize("cbreak", [False, True])
def test_the_rest_of_a_pipeline_is_interrupted(start, cbreak):
    s = start()
    write(os.path.join(s.warm.work, "other.py"),
          "import os, signal, time\nsignal.signal(2, lambda *a: (os.write(2, b'other\\n'), os._exit(0)))\n"
          "open('there', 'w')\ntime.sleep(60)")
    s.start(f"""
        import os, time
        os.system("{'stty cbreak' if cbreak else ':'} </dev/tty")
        while not os.path.exists("there"): time.sleep(0.01)
        print("up", flush=True)
        time.sleep(60)
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


def test_pager_behind(start):
    """The keys are the pager's, although the program has children in the terminal."""
    needs("less")
    s = start()
    s.start("import os\nos.system('echo 0')\nfor i in range(1, 300): print(i)\nos.system('echo 300')", "$P p.py | less; clear")
    s.t.expect("20\r?\n")
    s.t.type(" ")
    s.t.expect("41\r?\n")
    s.t.type("q")
    s.prompt()
    assert s.t.modes() == s.modes


def test_pager_and_editor_as_children(start):
    needs("less", "vim")
    s = start()
    s.start("""
        import os
        os.system("seq 100 | less")
        os.system("vim -u NONE -N v.txt")
        print("end")
    """)
    s.t.expect("20\r?\n")
    s.t.type(" ")
    s.t.expect("41\r?\n")
    s.t.type("q")
    s.t.expect("~")
    s.t.type("ihello\x1b")
    s.t.expect("hello")
    s.t.type("\x1a")
    s.t.expect("Stopped")
    s.prompt()
    s.t.type("fg\r")
    s.t.expect("hello")
    s.t.type(":wq\r")
    s.t.expect("end\r\n" + PROMPT)
    assert procs.read(os.path.join(s.warm.work, "v.txt")) == b"hello\n"
    assert s.t.modes() == s.modes


def test_full_screen(start):
    """curses: keys one by one, the screen put back."""
    s = start()
    s.start("""
        import curses
        def main(screen):
            screen.addstr(2, 3, "press")
            screen.refresh()
            key = screen.getkey()
            screen.addstr(3, 3, "<" + key + ">")
            screen.refresh()
            screen.getkey()
        curses.wrapper(main)
        print("end")
    """)
    s.t.expect("press")
    s.t.type("k")
    s.t.expect("<k>")
    s.t.type("q")
    s.t.expect("end\r\n" + PROMPT)
    assert s.t.modes() == s.modes


def test_debugger(start):
    s = start()
    s.start("x = 41\nbreakpoint()\nprint('x is', x)")
    s.t.expect(r"\(Pdb\) ")
    s.t.type("x += 1\r")
    s.t.expect(r"\(Pdb\) ")
    s.t.type("c\r")
    s.t.expect("x is 42\r\n" + PROMPT)
    assert s.t.modes() == s.modes


def test_input_with_readline(start):
    """Editing, history and completion."""
    s = start()
    s.start("""
        import readline
        readline.parse_and_bind("tab: complete")
        readline.set_completer(lambda text, n: ["completed"][n] if n < 1 else None)
        print("got", input("? "))
        print("got", input("? "))
        print("got", input("? "))
    """)
    s.t.expect(r"\? ")
    s.t.type("abd\x1b[Dc\r")
    s.t.expect("got abcd\r\n")
    s.t.expect(r"\? ")
    s.t.type("comp\t\r")
    s.t.expect("got completed ?\r\n")
    s.t.expect(r"\? ")
    s.t.type("\x1b[A\x1b[A\r")
    s.t.expect("got abcd\r\n" + PROMPT)
    assert s.t.modes() == s.modes


def test_polling_program(start):
    """One that looks for a key now and then, and never waits for it."""
    s = start()
    s.start("""
        import select, sys, time
        print("up", flush=True)
        while not select.select([sys.stdin], [], [], 0)[0]: time.sleep(0.01)
        print("got", sys.stdin.readline())
    """)
    s.t.expect("up\r\n")
    s.t.type("key\r")
    s.t.expect("got key\r\n")


def test_asyncio_reader(start):
    s = start()
    s.start("""
        import asyncio, sys
        async def main():
            line = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().add_reader(0, lambda: line.done() or line.set_result(sys.stdin.readline()))
            print("up", flush=True)
            print("got", await line)
        asyncio.run(main())
    """)
    s.t.expect("up\r\n")
    s.t.type("key\r")
    s.t.expect("got key\r\n")


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


def test_all_output_is_there(start):
    """Of the program, and of a child that has written a lot just before the end."""
    s = start()
    s.start("import os\nos.system('seq 1 20000')\nprint('end')")
    s.t.expect("\r\n20000\r\nend\r\n" + PROMPT)
    numbers = re.findall(r"(?<=\n)(\d+)(?=\r\n)", s.t.text)
    assert numbers == [str(n) for n in range(1, 20001)]


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


def test_ipython(start):
    """Its own editor, completion and history."""
    s = start(interpreter=with_module("IPython"))
    s.start("import IPython\nIPython.start_ipython(['--colors=NoColor', '--no-banner', '--no-confirm-exit'])")
    s.t.expect(r"In \[.*1")
    s.t.type("import os; 6 * 7\r")
    s.t.expect("42")
    s.t.expect(r"In \[.*2")
    s.t.type("os.getcw\t")
    s.t.expect("getcwd")
    s.t.type("()\r")
    s.t.expect(re.escape(s.warm.work))
    s.t.expect(r"In \[.*3")
    s.t.type("\x04")
    s.prompt()
    assert s.t.modes() == s.modes


def test_interactive_interpreter(start):
    """python's own prompt: cold, hence the same."""
    s = start()
    s.t.type("$P -q\r")
    s.t.expect(">>> ")
    s.t.type("6 * 7\r")
    s.t.expect("42")
    s.t.expect(">>> ")
    s.t.type("\x1b[A\r")
    s.t.expect("42")
    s.t.expect(">>> ")
    s.t.type("import keywor\t\r")
    s.t.expect(">>> ")
    s.t.type("exit()\r")
    s.prompt()
    assert s.t.modes() == s.modes
