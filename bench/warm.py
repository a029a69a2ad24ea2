"""A private warmfork for measuring: its own runtime directory, a daemon of its own, and what that daemon says."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from spawn import Command, Failed

PATIENCE = 120  # seconds for a zygote to become ready; importing from a cold disk is slow


def clean_environment():
    """The caller's environment without what would change the measured programs (make's and python's variables)."""
    dropped = ("WARMFORK_", "PYTHON", "MAKE", "MFLAGS", "VIRTUAL_ENV", "GLIBC_TUNABLES")
    return {k: v for k, v in os.environ.items() if not k.startswith(dropped)}


class Warm:
    """Context manager: a fresh runtime directory; on leaving, everything in it is stopped and removed."""

    def __init__(self, python, warmpy):
        self.python = python
        self.warmpy = warmpy
        self.warmctl = str(Path(warmpy).with_name("warmctl"))
        self.directory = None

    def __enter__(self):
        self.directory = tempfile.mkdtemp(prefix="wfbench-")
        os.chmod(self.directory, 0o700)
        return self

    def __exit__(self, *_):
        self.control("stop", check=False)
        shutil.rmtree(self.directory, ignore_errors=True)

    def env(self, **more):
        return {
            **clean_environment(),
            "WARMFORK_RUNTIME_DIR": self.directory,
            "WARMFORK_PYTHON": self.python,
            **more,
        }

    def control(self, *args, env=None, check=True):
        done = subprocess.run(
            [self.warmctl, *args], env=env or self.env(), capture_output=True, text=True, timeout=PATIENCE
        )
        if check and done.returncode:
            raise Failed(f"warmctl {' '.join(args)}: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def preload_env(self, preload):
        return self.env(WARMFORK_PRELOAD=preload) if preload else self.env()

    def warm(self, preload):
        """Returns when a zygote with this preload list serves (an event: warmctl waits for the daemon's answer).

        A module that warmfork left out of the preload, for whatever reason, is a failure here.
        """
        if not preload:
            self.control("warm")
            return
        self.control("warm", "--preload", preload)
        before = self.served(preload)
        code = f"import sys; sys.exit(' '.join({{*{preload.split(',')}}} - {{*sys.modules}}) or 0)"
        argv = [self.warmpy, "-c", code]
        done = subprocess.run(argv, env=self.preload_env(preload), capture_output=True, text=True)
        if done.returncode:
            notes = "; ".join(self.zygote(preload).get("notes", []))
            raise Failed(f"preload {preload}: not loaded: {done.stderr.strip()} ({notes})")
        self.check_served(before + 1, preload)

    def command(self, name, preload, argv):
        return Command(name, [self.warmpy, *argv], self.preload_env(preload), preload)

    def zygote(self, preload, name=""):
        """What the daemon says of the zygote that serves this preload list (or this name)."""
        for zygote in json.loads(self.control("status", "--json"))["zygotes"]:
            if zygote["preload"] == preload and zygote["name"] == name and zygote["state"] == "ready":
                return zygote
        raise Failed(f"no ready zygote with preload '{preload}' and name '{name}'")

    def served(self, preload, name=""):
        return self.zygote(preload, name)["served"]

    def check_served(self, expected, preload, name=""):
        """Fails unless the zygote's count of runs reaches `expected`; it tells the daemon at most once a second."""
        deadline = time.monotonic() + 5
        while (count := self.served(preload, name)) < expected and time.monotonic() < deadline:
            time.sleep(0.1)
        if count != expected:
            label = name or preload or "nothing"
            raise Failed(f"preload {label}: {count} runs served warm where {expected} were made")

    def standbys(self, preload):
        """The pids of the zygote's standby workers: its children that are not themselves zygotes."""
        status = json.loads(self.control("status", "--json"))
        zygotes = {z["pid"] for z in status["zygotes"]}
        pid = self.zygote(preload)["pid"]
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(c) for c in children if int(c) not in zygotes]
