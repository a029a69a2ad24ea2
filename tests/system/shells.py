"""Shells with job control in a real terminal, and programs started from them."""

import importlib.util
import os
import shutil
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


# The start of a program that stops after its child, as sudo does: else the shell may take the terminal before the child, which
# asks for a password, has put its modes back.
STOPS_AFTER_ITS_CHILD = """
import os, signal, subprocess
def stop(*_):
    os.waitid(os.P_ALL, 0, os.WSTOPPED | os.WNOWAIT)
    os.kill(os.getpid(), signal.SIGSTOP)
signal.signal(signal.SIGTSTP, stop)
signal.signal(signal.SIGINT, lambda *_: None)
"""
