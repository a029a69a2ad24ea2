"""The C side of the measurements: compiles the helpers into .cache/ and runs spawnbench."""

import random
import subprocess
import sys
from pathlib import Path

from records import ROOT

CACHE = ROOT / ".cache" / "bench"
BENCH = ROOT / "bench"
FLAGS = {
    "spawnbench": ("spawnbench.c", ["-std=gnu17", "-D_GNU_SOURCE"]),
    "empty": ("empty.c", ["-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector"]),
    "rawloop.so": ("rawloop.c", ["-std=gnu17", "-D_GNU_SOURCE", "-shared", "-fPIC"]),
}


def build(name):
    """Compiles a helper when its source is newer; returns its path."""
    source, flags = FLAGS[name]
    target = CACHE / name
    if not target.exists() or target.stat().st_mtime < (BENCH / source).stat().st_mtime:
        CACHE.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(["cc", "-O2", *flags, "-o", str(target), str(BENCH / source)])
        if done.returncode:
            sys.exit(f"bench: cc {source} failed")
    return str(target)


class Command:
    """One program to be timed: a name, absolute argv[0] with arguments, and its whole environment."""

    def __init__(self, name, argv, env, preload=None):
        self.name = name
        self.argv = argv
        self.env = env
        self.preload = preload  # the preload list of a warm command; None for a cold one

    def write(self, path):
        strings = [str(len(self.argv)), *self.argv, *(f"{k}={v}" for k, v in self.env.items())]
        Path(path).write_bytes(b"".join(s.encode("utf-8", "surrogateescape") + b"\0" for s in strings))


class Failed(Exception):
    """A figure that must not be reported, and why."""


def run(commands, gap_ms, rounds, directory):
    """Runs the commands interleaved. Returns {name: [ns, …]} and the elapsed nanoseconds of the whole."""
    files = []
    for index, command in enumerate(commands):
        path = Path(directory) / f"command.{index}"
        command.write(path)
        files.append(str(path))
    seed = random.randrange(1 << 31)
    argv = [build("spawnbench"), str(int(gap_ms * 1000)), str(rounds), str(seed), *files]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise Failed(f"spawnbench exited with {done.returncode}")
    samples = {c.name: [] for c in commands}
    elapsed = 0
    for line in done.stdout.splitlines():
        if line.startswith("elapsed "):
            elapsed = int(line.split()[1])
            continue
        index, ns, status = map(int, line.split())
        if status:
            raise Failed(f"{commands[index].name}: a run ended with status {status}")
        samples[commands[index].name].append(ns)
    return samples, elapsed
