"""Runs one module of CPython's test suite under python and under warmpy, and says what every test method made of it.

    suite = Lane(bin_dir, python)      one at a time: it has directories, a daemon and zygotes of its own
    suite.compare("test.test_os")      a `Comparison`, after as many runs as it takes
    suite.close()

A test method's *outcome* is what `cpython_outcomes.py` noted of it: a tuple, since a method with failing subtests has
several. A method that ended the process has the outcome ("died signal 11",), one that hung is ("unfinished",), one that
the other side has and this one has not is ("missing",). A pseudo method tells of the run itself: "(exit status)".
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "system"))

import procs  # noqa: E402  (tests/system is not a package)
from harness import Warm  # noqa: E402

RECORDER = Path(__file__).with_name("cpython_outcomes.py")
STATUS = "(exit status)"
PRIME = "-m", "__future__"  # the same context as `-m unittest`, and over at once
TRIES = 4  # for a warm run, before it is said that there is none
LAST = "unfinished", "died "
POLL = 5.0  # seconds
MOST = 20  # methods of a module that are left out for what they do to the others
Outcomes = dict[str, tuple[str, ...]]


@dataclass
class Run:
    """One side's run of a module."""

    outcomes: Outcomes
    texts: dict[str, str]
    seconds: float
    warm: bool
    hung: bool
    log: str

    def last(self) -> list[str]:
        """The methods after which there were no more: one that hung, or that ended the process."""
        return sorted(test for test, outcome in self.outcomes.items() if any(o.startswith(LAST) for o in outcome))


@dataclass
class Choice:
    """Which tests of a module to run."""

    only: list[str] | None = None
    without: list[str] = field(default_factory=list)


@dataclass
class Difference:
    """A test method whose outcomes under warmpy are not those under python."""

    test: str
    cold: list[list[str]]
    warm: list[list[str]]
    text: str = ""


@dataclass
class Comparison:
    """What is known of one module; a line of the results."""

    module: str
    python: str
    methods: int = 0  # compared: those that either side ended
    same: int = 0
    unfinished: list[str] = field(default_factory=list)  # hang under python as well
    outcomes: dict[str, int] = field(default_factory=dict)  # under python: pass, fail, error, skip, …
    differs: list[Difference] = field(default_factory=list)
    unsteady: list[Difference] = field(default_factory=list)  # python's own outcomes vary as well
    warm: bool = True  # False: no run was warm, and nothing is proved
    seconds: tuple[float, float] = (0.0, 0.0)

    def line(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def of_line(cls, line: str) -> Comparison:
        found: dict[str, Any] = json.loads(line)
        for name in ("differs", "unsteady"):
            found[name] = [Difference(**entry) for entry in found[name]]
        return cls(**found)


def read_outcomes(path: Path) -> tuple[Outcomes, dict[str, str], bool]:
    """The outcomes, what was said of them, and whether the preload was there."""
    preloaded = False
    told: dict[str, list[str]] = {}
    texts: dict[str, str] = {}
    running: Counter[str] = Counter()
    lines = path.read_text("utf-8", "replace").splitlines() if path.exists() else []
    for line in lines:
        try:
            event, test, outcome, text = json.loads(line)
        except ValueError:
            continue  # cut off by the end of the process
        if event == "preloaded":
            preloaded = True
        elif event == "outcome":
            told.setdefault(test, []).append(outcome)
            texts[test] = f"{texts.get(test, '')}{outcome}: {text}\n"
        else:
            running[test] += 1 if event == "start" else -1
    for test, count in running.items():
        if count > 0:
            told.setdefault(test, []).append("unfinished")
        told.setdefault(test, [])
    return {test: tuple(sorted(set(outcomes))) for test, outcomes in told.items()}, texts, preloaded


class Lane:
    """Runs modules one after the other, each run in emptied directories."""

    def __init__(self, bin_dir: str, python: str, limit: float = 200, rounds: int = 3, preload: str = "") -> None:
        self.user = Warm(bin_dir, python)
        self.python, self.limit, self.rounds = python, limit, rounds
        self.tmp = Path(self.user.dir) / "t"
        self.work = Path(self.user.work)
        self.state = Path(self.user.dir) / "state"
        self.state.mkdir()
        self.preload = preload
        self.stopped = False  # set by another thread: the run that goes on is ended, and none begun
        self.env: dict[str, str | None] = {"WARMFORK_PRELOAD": preload or None, "TERM": "dumb", "TMPDIR": str(self.tmp)}
        asked = subprocess.run([python, "-V"], capture_output=True, text=True, check=True)
        self.version = asked.stdout.split()[1]
        self.logs: Callable[[str, str, str], None] = lambda module, side, text: None

    def close(self, check: bool = True) -> None:
        """Ends the daemon and its zygotes, and with `check` asserts that nothing of them is left."""
        self.user.close(check)

    def leftovers(self) -> list[int]:
        """What a run has left running: not the daemon, the zygotes, and the standby workers, which show what the zygote
        was made for."""
        found = procs.belonging_to(self.user.dir)
        ours = re.compile(rb"^warmforkd\0|/boot\.py\0|\0" + PRIME[1].encode() + rb"\0")
        return [pid for pid in found if not ours.search(procs.read(f"/proc/{pid}/cmdline"))]

    def clear(self) -> None:
        left = self.leftovers()
        while left:
            procs.kill(left)
            procs.wait_gone(left, 10)
            left = self.leftovers()
        for path in (self.tmp, self.work):
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(exist_ok=True)
        for name in os.listdir(self.user.home):  # the zygotes watch the directory itself, where packages may come to be
            shutil.rmtree(os.path.join(self.user.home, name), ignore_errors=True)
        (self.state / "outcomes").unlink(missing_ok=True)

    def prime(self) -> None:
        """Returns when the next run can be warm, and its preload is there."""
        self.clear()
        self.user.until_warm(lambda: self.user.run(PRIME, env=self.env, stdin=subprocess.DEVNULL))
        if self.preload:
            self.user.until_warm(lambda: self.run_once("test.test_bool", True, Choice()))

    def run(self, module: str, warm: bool, choice: Choice) -> Run:
        for attempt in range(TRIES if warm else 1):
            if warm and attempt:
                self.prime()
            run = self.run_once(module, warm, choice)
            if run.warm == warm:
                break
        return run

    def run_once(self, module: str, warm: bool, choice: Choice) -> Run:
        if self.stopped:
            raise InterruptedError(f"{module} was not compared: told to stop")
        self.clear()
        shutil.copy(RECORDER, self.work)
        noted = self.state / "outcomes"
        asked = {"module": module, "file": str(noted), "directory": self.user.dir, "preload": self.preload}
        (self.work / RECORDER.name).with_suffix(".json").write_text(json.dumps(asked | asdict(choice)))
        argv = [self.user.warmpy if warm else self.python, "-m", "unittest", RECORDER.stem]
        began = time.monotonic()
        with open(self.state / "log", "wb") as log:
            process = self.user.spawn(
                argv, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, before=as_in_a_shell)
            hung = not self.ends(process.pid, noted)
            if hung:
                procs.kill([process.pid, *self.leftovers()])
            process.finish()
        self.user.processes.clear()
        seconds = time.monotonic() - began
        outcomes, texts, preloaded = read_outcomes(noted)
        if not hung:
            status = f"{process.result.kind} {process.result.value}"
            for test, outcome in outcomes.items():
                outcomes[test] = tuple(f"died {status}" if o == "unfinished" else o for o in outcome)
            outcomes[STATUS] = (status,)
        text = (self.state / "log").read_text("utf-8", "replace")
        return Run(outcomes, texts, seconds, process.result.warm and (preloaded or not self.preload), hung, text)

    def ends(self, pid: int, noted: Path) -> bool:
        """Waits for the end of a run; false when it notes no event for too long, or is to be stopped. The time for
        which the machine, or all of this, was suspended does not count."""
        silent, size = 0.0, 0
        while procs.wait_gone([pid], POLL):
            new = noted.stat().st_size if noted.exists() else 0
            silent = silent + POLL if new == size else 0
            size = new
            if self.stopped or silent > self.limit:
                return False
        return True

    def compare(self, module: str) -> Comparison:
        """Runs both sides, and again for the methods that differ: one that always differs is a difference, one whose
        outcomes overlap is not steady. A test that hangs under python is left out, so that the others are compared; one
        that ends python is run by itself."""
        whole, alone = Choice(), list[str]()
        cold = self.run(module, False, whole)
        while (stuck := cold.last()) and len(whole.without) < MOST:
            alone += [] if cold.hung else stuck
            whole = Choice(without=[*whole.without, *stuck])
            cold = self.run(module, False, whole)
        runs = [self.both(module, whole, alone, cold)]
        cold, warm = runs[0]
        result = Comparison(module, self.version, warm=warm.warm)
        result.unfinished = [test for test in whole.without if test not in alone]
        result.seconds = (round(cold.seconds, 2), round(warm.seconds, 2))
        suspects = differing(cold, warm)
        while suspects and len(runs) < self.rounds:
            choice = Choice(narrowed(suspects, runs[0]), whole.without)
            runs.append(self.both(module, choice, [test for test in alone if test in suspects]))
            suspects = [test for test in suspects if test in differing(*runs[-1])]
        judge(result, runs)
        if result.differs or result.unsteady:
            for number, pair in enumerate(runs):
                self.logs(module, f"cold{number}", pair[0].log)
                self.logs(module, f"warm{number}", pair[1].log)
        self.clear()
        return result

    def both(self, module: str, choice: Choice, alone: list[str], cold: Run | None = None) -> tuple[Run, Run]:
        """Both sides of `choice`, of which python's may have been run, and of each method that wants a run `alone`."""
        cold = cold or self.run(module, False, choice)
        warm = self.run(module, True, choice)
        for test in alone:
            for side in (cold, warm):
                run = self.run(module, side is warm, Choice([test]))
                side.outcomes[test] = outcome_in(run, test)
                side.log += run.log
                side.warm = side.warm and run.warm if side is warm else side.warm
        return cold, warm


def as_in_a_shell() -> None:
    """Called in the child: a shell that is not interactive has what it starts with "&" ignore these."""
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


def outcome_in(run: Run, test: str) -> tuple[str, ...]:
    return run.outcomes.get(test, ("unfinished",) if run.hung else ("missing",))


def differing(cold: Run, warm: Run) -> list[str]:
    """The methods with another outcome; those that the time limit kept from ending on either side are not judged."""
    found = []
    for test in cold.outcomes | warm.outcomes:
        left, right = outcome_in(cold, test), outcome_in(warm, test)
        if left != right and not (cold.hung and "unfinished" in left) and not (test == STATUS and cold.hung):
            found.append(test)
    return found


def narrowed(suspects: list[str], first: tuple[Run, Run]) -> list[str] | None:
    """The tests to run again: null for all of a quick module, or when it is not single methods that differ."""
    single = [test for test in suspects if test != STATUS and "(" not in test]
    quick = max(run.seconds for run in first) < 20
    return None if quick or not single or any(run.hung for run in first) else single


def judge(result: Comparison, runs: list[tuple[Run, Run]]) -> None:
    cold, warm = runs[0]
    suspects = set(differing(cold, warm))
    words: Counter[str] = Counter()
    for test in sorted(cold.outcomes | warm.outcomes):
        left, right = outcome_in(cold, test), outcome_in(warm, test)
        if "unfinished" in left and ("unfinished" in right or cold.hung):
            result.unfinished.append(test)
            continue
        if test != STATUS:
            result.methods += 1
            words.update({outcome.split()[0] for outcome in left} or {"pass"})
        if test not in suspects:
            result.same += test != STATUS
            continue
        pairs = [pair for pair in runs if test == STATUS or any(test in run.outcomes for run in pair)]
        lefts = sorted({outcome_in(pair[0], test) for pair in pairs})
        rights = sorted({outcome_in(pair[1], test) for pair in pairs})
        text = f"python:\n{cold.texts.get(test, '')}warmpy:\n{warm.texts.get(test, '')}"
        entry = Difference(test, [list(o) for o in lefts], [list(o) for o in rights], text[-4000:])
        (result.unsteady if set(lefts) & set(rights) else result.differs).append(entry)
    result.outcomes = dict(sorted(words.items()))
