"""Real programs in a terminal, as children and as the program itself. Under python3 and under warmpy."""

import os
import subprocess
import re

import procs
from shells import PROMPT, STOPS_AFTER_ITS_CHILD, needs, with_module


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


def test_passphrase(start):
    """OpenSSH's own prompt, which is that of ssh: answered, interrupted, suspended."""
    needs("ssh-keygen")
    s = start()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", "key"], cwd=s.warm.work, check=True)
    s.start(STOPS_AFTER_ITS_CHILD + '''
for name in "first", "second":
    child = subprocess.run(["ssh-keygen", "-y", "-f", "key"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    print(name, child.returncode, child.stdout[:11], flush=True)
''')

    def asked():
        s.t.expect("passphrase.*: ")
        s.t.until(lambda: not s.t.is_cooked() and procs.sleeps(s.warm.dir, b"ssh-keygen"))

    asked()
    s.t.type("sec\x03")
    s.t.expect("first -2 \r\n")
    asked()
    s.t.type("sec\x1a")
    s.t.expect("Stopped")
    s.prompt()
    assert s.t.modes() == s.modes
    s.t.type("fg\r")
    asked()
    s.t.type("secret\r")
    s.t.expect("second 0 ssh-ed25519\r\n")
    s.prompt()
    assert "secret" not in s.t.text and s.t.modes() == s.modes


def test_script_around(start):
    """Under script(1) the program's terminal is the one that script made."""
    needs("script")
    s = start()
    s.start("import os\nprint(os.ttyname(0) != os.environ['OUTER'], os.tcgetpgrp(0) == os.getpgrp())\nprint('got', input())",
            f"OUTER={s.t.name} script -qec '$P p.py' typescript")
    s.t.expect("True True\r\n")
    s.t.type("word\r")
    s.t.expect("got word\r\n")
    s.prompt()
    assert "got word\r\n" in procs.read(os.path.join(s.warm.work, "typescript")).decode()
    assert s.t.modes() == s.modes


def test_script_as_a_child(start):
    needs("script")
    s = start()
    s.start("import subprocess\nprint('status', subprocess.run(['script', '-qec', 'read x; echo got $x; exit 3', 'typescript']).returncode)")
    s.t.until(lambda: not s.t.is_cooked())
    s.t.type("word\r")
    s.t.expect("got word\r\n")
    s.t.expect("status 3\r\n")
    s.prompt()
    assert s.t.modes() == s.modes
