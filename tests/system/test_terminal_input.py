"""What is typed, and which modes the terminal is in: lines, keys, passwords, and what nobody reads. Under python3 and
under warmpy."""

import os
import re
import signal

import pytest

import procs
from harness import write
from shells import PROMPT, STOPS_AFTER_ITS_CHILD


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
    s.start("import os, sys\nos.open('/dev/tty', os.O_RDWR)\nprint('up', flush=True)\nprint([os.read(0, 99) for i in range(3)])")
    s.t.expect("up\r\n")
    s.t.type("piece\x04")
    s.t.type("line\r")
    s.t.type("\x04")
    s.t.expect(re.escape(r"[b'piece', b'line\n', b'']"))


def test_control_characters_in_a_line(start):
    """Quoted keys (Ctrl-V) arrive as they are."""
    s = start()
    s.start("import os\nos.open('/dev/tty', os.O_RDWR)\nprint('up', flush=True)\nprint(os.read(0, 99))")
    s.t.expect("up\r\n")
    s.t.type("a\x16\x03b\x16\x1ac\r")
    s.t.expect(re.escape(r"b'a\x03b\x1ac\n'"))


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


# What ssh and sudo do to ask for a password (readpassphrase): the terminal itself, whatever stdin is; no echo, what was
# typed before is thrown away; signals that end or stop are noted, and sent again once the modes are back.
ASK = """
import os, signal, termios

class Noted(Exception): pass

def note(sig, frame):
    noted.append(sig)
    raise Noted

noted = []
def ask():
    noted.clear()
    tty = os.open("/dev/tty", os.O_RDWR)
    numbers = [signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU]
    before = {number: signal.signal(number, note) for number in numbers}
    modes = termios.tcgetattr(tty)
    quiet = [*modes[:3], modes[3] & ~(termios.ECHO | termios.ECHONL), *modes[4:]]
    word, changed = b"", False
    try:
        termios.tcsetattr(tty, termios.TCSAFLUSH, quiet)
        changed = True
        os.write(tty, b"Password: ")
        while (byte := os.read(tty, 1)) not in (b"", b"\\n"):
            word += byte
    except Noted:
        pass
    if changed:
        os.write(tty, b"\\n")
        termios.tcsetattr(tty, termios.TCSAFLUSH, modes)
    for number, handler in before.items():
        signal.signal(number, handler)
    os.close(tty)
    for number in noted:
        os.kill(os.getpid(), number)
    return ask() if noted else word.decode()

signal.signal(signal.SIGINT, signal.SIG_DFL)
print("backwards", ask()[::-1])
"""


def ask_as_child(session, line="$P p.py"):
    """A program whose child asks for a password, its stdin and stdout being something else."""
    write(os.path.join(session.warm.work, "ask.py"), ASK)
    session.start(STOPS_AFTER_ITS_CHILD + '''
child = subprocess.run([os.environ["O"], "ask.py"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
print("child", child.returncode, child.stdout, flush=True)
''', line)
    session.t.expect("Password: ")
    session.t.until(lambda: not session.t.is_cooked() and procs.sleeps(session.warm.dir, b"ask.py"))


def test_password_prompt_of_a_child(start):
    s = start()
    ask_as_child(s)
    s.t.type("secret\r")
    s.t.expect("child 0 backwards terces\r\n")
    s.prompt()
    assert "secret" not in s.t.text and s.t.modes() == s.modes


def test_password_prompt_that_is_interrupted(start):
    """Ctrl-C in the middle of the word: the child dies of it, the program does not, and the echo is back."""
    s = start()
    ask_as_child(s)
    s.t.type("sec\x03")
    s.t.expect("child -2 \r\n")
    s.prompt()
    assert s.t.modes() == s.modes


def test_password_prompt_that_is_suspended(start):
    """Ctrl-Z in the middle of the word: the shell has its modes, and after fg the child asks again."""
    s = start()
    ask_as_child(s)
    s.t.type("sec\x1a")
    s.t.expect("Stopped")
    s.prompt()
    assert s.t.modes() == s.modes
    s.t.type("fg\r")
    s.t.expect("Password: ")
    s.t.until(lambda: not s.t.is_cooked())
    s.t.type("word\r")
    s.t.expect("child 0 backwards drow\r\n")
    s.prompt()
    assert s.t.modes() == s.modes


def test_password_prompt_in_the_background(start):
    """It is stopped before it changes anything, and asks after fg."""
    s = start()
    write(os.path.join(s.warm.work, "ask.py"), ASK)
    s.start("import os, subprocess\nprint('up', os.getpid(), flush=True)\nsubprocess.run([os.environ['O'], 'ask.py'])", "$P p.py &")
    s.t.expect(r"up \d+\r\n")
    job = int(re.search(r"\[1\] (\d+)\r\n", s.t.text)[1])
    s.t.until(lambda: procs.stat(job)[1] == "T")
    assert s.t.is_cooked()
    s.t.type("\r")
    s.t.expect("Stopped")
    s.prompt()
    s.t.type("fg\r")
    s.t.expect("Password: ")
    s.t.until(lambda: not s.t.is_cooked())
    s.t.type("secret\r")
    s.t.expect("backwards terces\r\n")
    s.prompt()
    assert "secret" not in s.t.text and s.t.modes() == s.modes


def test_password_through_a_pipe(start):
    """sudo -S: the prompt goes to the terminal, the answer comes from the program."""
    s = start()
    s.start("""
        import subprocess
        child = ["sh", "-c", 'printf "Password: " >/dev/tty; read word; echo "got $word" >&2']
        print(subprocess.run(child, input="secret\\n", text=True, stderr=subprocess.PIPE).stderr)
    """)
    s.t.expect("Password: got secret\r\n")
    s.prompt()
    assert s.t.modes() == s.modes


def test_answers_as_fast_as_prompts(start):
    """Who types as soon as the prompt is there, as expect(1) does, sees the answer once; and no password."""
    s = start()
    s.start("""
        import getpass, readline
        for i in range(20):
            print("got", input("Name: "), getpass.getpass("Word: ")[::-1])
    """)
    for i in range(20):
        s.t.expect("Name: ")
        s.t.type(f"name{i}.\r")
        s.t.expect("Word: ")
        s.t.type(f"secret{i}.\r")
        s.t.expect(rf"got name{i}\. \.")
    s.prompt()
    assert "secret" not in s.t.text and all(s.t.text.count(f"name{i}.") == 2 for i in range(20))
    assert s.t.modes() == s.modes
