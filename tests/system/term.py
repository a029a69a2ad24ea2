"""A terminal with something in it, seen as its user sees it: what is on the screen, what the keys do, which modes are
left behind.

    with Terminal(["bash", "--norc"], env=env) as t:
        t.expect("$ ")
        t.type("warmpy prog.py\\r")
        t.expect("done")

The program is the leader of a session of its own whose controlling terminal this is, as under any terminal emulator.
Everything waits for an event: for output to match, or for something to be true.
"""

import errno
import fcntl
import os
import re
import select
import struct
import subprocess
import termios
import time

import procs

TIMEOUT = 20


class Terminal:
    def __init__(self, argv, env=None, cwd=None, size=(24, 80), before=None):
        self.master, slave = os.openpty()
        self.name = os.ttyname(slave)
        self.text, self.seen, self.closed = "", 0, False
        self.resize(*size)

        def first():
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            if before is not None:
                before()

        self.popen = subprocess.Popen(argv, env=env, cwd=cwd, stdin=slave, stdout=slave, stderr=slave,
                                      start_new_session=True, preexec_fn=first)
        self.slave = slave  # kept, so that modes can be asked for at any time, and nothing ends by itself
        self.pid = self.popen.pid

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self):
        if self.closed:
            return
        self.closed = True
        os.close(self.slave)
        os.close(self.master)  # hangs up
        if procs.wait_gone([self.pid], 5):
            self.popen.kill()
        self.popen.wait()

    # What a user does and sees

    def type(self, keys):
        os.write(self.master, keys.encode())

    def read(self, seconds):
        """Takes in what comes within that time; False when nothing did."""
        if not select.select([self.master], [], [], max(0, seconds))[0]:
            return False
        try:
            self.text += os.read(self.master, 65536).decode(errors="replace")
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return False
        return True

    def expect(self, *patterns, seconds=TIMEOUT):
        """Waits until one of the patterns (regular expressions) is found behind what was expected last; returns the match."""
        deadline = time.monotonic() + seconds
        while True:
            found = [match for match in (re.search(p, self.text[self.seen:], re.S) for p in patterns) if match]
            if found:
                match = min(found, key=lambda m: m.start())
                self.seen += match.end()
                return match
            left = deadline - time.monotonic()
            assert left > 0, f"waited {seconds} s for {patterns}; the terminal has {self.text[self.seen:]!r} after " \
                             f"{self.text[:self.seen][-1500:]!r}"
            self.read(left)

    def nothing(self, pattern, seconds=0.3):
        """Asserts that the pattern does not come within that time (a bound: a late one goes unnoticed)."""
        deadline = time.monotonic() + seconds
        while self.read(deadline - time.monotonic()):
            pass
        assert not re.search(pattern, self.text[self.seen:]), self.text[self.seen:]

    def until(self, true, seconds=TIMEOUT):
        """Waits until `true()` is, looking again at whatever is printed, and now and then."""
        deadline = time.monotonic() + seconds
        while True:
            value = true()
            if value:
                return value
            assert time.monotonic() < deadline, f"did not come true; the terminal has {self.text[-1500:]!r}"
            self.read(0.05)

    def wait(self):
        """The exit status of what was started here (minus the signal), after all of its output."""
        deadline = time.monotonic() + TIMEOUT
        while self.popen.poll() is None and time.monotonic() < deadline:
            self.read(0.05)
        assert self.popen.returncode is not None, f"no end within {TIMEOUT} s: {self.text[-1500:]!r}"
        while self.read(0):
            pass
        return self.popen.returncode

    # What the terminal is like

    def modes(self):
        return termios.tcgetattr(self.slave)

    def is_cooked(self):
        local = self.modes()[3]
        return bool(local & termios.ICANON) and bool(local & termios.ECHO)

    def foreground(self):
        return struct.unpack("i", fcntl.ioctl(self.master, termios.TIOCGPGRP, b"\0\0\0\0"))[0]

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def hang_up(self):
        os.close(self.slave)
        os.close(self.master)
        self.closed = True
        assert not procs.wait_gone([self.pid], TIMEOUT)
        self.popen.wait()
