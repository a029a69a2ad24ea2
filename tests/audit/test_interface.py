"""What is importable from warmfork, and how it behaves; safefork's own tests are among these."""

import json

import pytest
from audit_harness import of, run

THREAD = "import threading\npump = threading.Thread(target=threading.Event().wait, name='pump', daemon=True); pump.start()\n"


def test_a_report(python):
    program = """
import json
clean = warmfork.audit()
assert clean.safe and clean and clean.seconds > 0 and clean.summary().startswith("safe to fork")
""" + THREAD + """
report = warmfork.audit()
assert not report and not report.safe
assert [f.code for f in report.findings][0] == "thread"
text = report.format()
assert text.splitlines()[0].startswith("unsafe to fork: 1 unsafe") and "'pump'" in text and "fix:" in text
assert "gc" in text and "gc " not in report.format("unsafe")
data = json.loads(report.to_json())
assert data["safe"] is False and data["findings"][0]["evidence"]["name"] == "pump"
assert [f.code for f in report.since(clean).findings] == ["thread"]
assert [f.code for f in report.fails({"unsafe"})] == ["thread"] and not report.fails({"socket"})
assert {f.code for f in report.fails({"gc"})} == {"gc"} and len(report.fails({"info"})) == len(report.findings)
assert "Finding unsafe thread" in repr(report.findings[0]) and "unsafe" in repr(report)
tell(report)
"""  # fmt: skip
    assert of(run(python, program), "thread")


def test_policy_is_the_callers(python):
    program = THREAD + """
assert warmfork.audit(policy={"thread": "info"})
assert not warmfork.audit(policy={"thread": "info", "thread:threading": "unsafe"})
assert not [f for f in warmfork.audit(policy={"thread": "ignore"}).findings if f.code == "thread"]
try:
    warmfork.audit(policy={"thread": "bad"})
except ValueError as error:
    assert "bad" in str(error)
else:
    raise AssertionError
tell()
"""
    assert not run(python, program)["safe"]


def test_a_thread_says_who_made_it(python, tmp_path):
    (tmp_path / "metrics.py").write_text("import threading\n\ndef start():\n    threading.Thread(target=threading.Event().wait, "
                                         "daemon=True).start()\n")
    program = "import sys; sys.path.insert(0, '.')\nwarmfork.trace()\nimport metrics\nmetrics.start()\nwarmfork.trace(False)\ntell()\n"
    (finding,) = of(run(python, program, cwd=tmp_path), "thread")
    assert finding["where"].endswith("metrics.py:4 in start")
    assert any("in <module>" in line for line in finding["evidence"]["created"])


def test_a_raw_thread_says_who_made_it(python):
    program = """
warmfork.trace()
import _thread, threading
ran = threading.Event()
def run(): ran.set(); threading.Event().wait()
def start(): _thread.start_new_thread(run, ())
start(); ran.wait(); tell()
"""
    (finding,) = of(run(python, program), "thread")
    assert finding["where"].endswith(" in start")


def test_logged_and_forked(python):
    program = """
import logging, os
records = []
class Keep(logging.Handler):
    def emit(self, record): records.append((record.levelname, record.getMessage()))
logging.getLogger("warmfork").addHandler(Keep()); logging.getLogger("warmfork").setLevel(0)
logging.getLogger("warmfork").propagate = False
assert warmfork.is_safe_to_fork() and all(level == "INFO" for level, _ in records)
pid = warmfork.safefork()
if pid == 0: os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
""" + THREAD + """
records.clear()
assert not warmfork.is_safe_to_fork()
assert any(level == "ERROR" and "'pump'" in text for level, text in records), records
try:
    warmfork.safefork()
except warmfork.UnsafeForkError as error:
    assert error.report.findings[0].code == "thread" and "pump" in str(error)
else:
    raise AssertionError
tell()
"""  # fmt: skip
    assert not run(python, program)["safe"]


AT_FORK = """
import multiprocessing, os, warnings
def forks(how=os.fork):
    pid = how()
    if pid == 0: os._exit(0)
    os.waitpid(pid if isinstance(pid, int) else pid[0], 0)
def refused(how):
    try: how()
    except warmfork.UnsafeForkError as error: return error.report.findings[0].code
warnings.simplefilter("error", warmfork.UnsafeForkWarning)
warnings.simplefilter("ignore", DeprecationWarning)
"""


def test_audits_before_every_fork(python):
    program = AT_FORK + """
from os import fork
warmfork.audit_at_fork("raise"); forks(); forks(fork)
""" + THREAD + """
assert refused(os.fork) == refused(fork) == refused(os.forkpty) == "thread"
assert refused(multiprocessing.get_context("fork").Process(target=int).start) == "thread"
import subprocess; subprocess.run(["true"], check=True)   # executes at once: nothing of ours is used in the child
warmfork.audit_at_fork("warn")
try: forks()
except warmfork.UnsafeForkWarning as warning: assert "pump" in str(warning)
else: raise AssertionError
warmfork.audit_at_fork("log"); forks()
warmfork.audit_at_fork(None); forks()
try: warmfork.audit_at_fork("never")
except ValueError: pass
else: raise AssertionError
tell()
"""  # fmt: skip
    assert not run(python, program)["safe"]


def test_an_audit_changes_nothing(python):
    """Handlers, descriptors, children, signals and the collector are as before; nobody hears of the settling fork."""
    program = """
import gc, os, signal, threading
signal.signal(signal.SIGCHLD, lambda *args: keep.append("SIGCHLD"))
signal.setitimer(signal.ITIMER_PROF, 1000)
read, write = os.pipe(); os.set_blocking(write, False); signal.set_wakeup_fd(write)
threading.Thread(target=threading.Event().wait, daemon=True).start()
def state():
    return (sorted(os.listdir("/proc/self/fd")), signal.pthread_sigmask(signal.SIG_BLOCK, []), gc.get_freeze_count() // 1000,
            gc.isenabled(), gc.get_threshold(), signal.getsignal(signal.SIGCHLD), len(os.listdir("/proc/self/task")))
warmfork.audit()
before = state()
for _ in range(5): warmfork.audit()
assert state() == before, (before, state())
assert not keep and signal.set_wakeup_fd(-1) == write
try: os.waitpid(-1, os.WNOHANG)
except ChildProcessError: pass
else: raise AssertionError
tell()
"""
    run(python, program)


def test_handlers_that_hang_are_told(python):
    program = """
import os, threading, time
lock = threading.Lock(); held = threading.Event()
def run(): lock.acquire(); held.set(); threading.Event().wait()
threading.Thread(target=run, daemon=True).start(); held.wait()
os.register_at_fork(after_in_child=lock.acquire)
tell()
"""
    report = run(python, program)
    assert any("hangs in its own fork handlers" in f["message"] for f in of(report, "lock"))


def test_handlers_that_work_make_a_thread_safe(python):
    """What opentelemetry and others do: the thread is made anew in the child, or ended before and started after."""
    program = """
import os, threading
class Worker:
    def start(self):
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.stop.wait, name="worker", daemon=True); self.thread.start()
    def end(self): self.stop.set(); self.thread.join()
one, two = Worker(), Worker()
one.start(); two.start(); two.thread.name = "other"
os.register_at_fork(after_in_child=one.start)
os.register_at_fork(before=two.end, after_in_parent=two.start)
tell()
"""
    report = run(python, program)
    assert [f["severity"] for f in of(report, "thread")] == ["info", "info"] and report["safe"]


def test_from_another_thread(python):
    """The main thread would not exist in a child of another thread."""
    program = """
import threading
def look():
    found = warmfork.audit()
    assert any(f.code == "thread" and "MainThread" in f.message for f in found.findings)
    tell(found)
threading.Thread(target=look).start()
threading.Event().wait()
"""
    assert not run(python, program)["safe"]


# vivster7/safefork 1.0.0, tests/test_safefork.py, with our functions in place of its checks, and an event
# in place of its sleep.
SAFEFORK = """
import gc, os, signal, threading, unittest

def check(*codes):
    return not any(f.code in codes and f.severity != "info" for f in warmfork.audit().findings)

def gc_freeze_ran():
    return gc.get_freeze_count() > 1000 and not any(f.code == "gc" and f.evidence["objects"] > 1000
                                                    for f in warmfork.audit().findings)

class TestSafeFork(unittest.TestCase):
    def test_check_active_threads(self):
        self.assertEqual(check("thread"), True)
        done = threading.Event()
        thread = threading.Thread(target=done.wait); thread.start()
        self.assertEqual(check("thread"), False)
        self.assertEqual(warmfork.is_safe_to_fork(), False)
        done.set(); thread.join()
        self.assertEqual(check("thread"), True)

    def test_check_gc_freeze_ran(self):
        self.assertEqual(gc_freeze_ran(), False)
        gc.freeze()
        self.assertEqual(gc_freeze_ran(), True)
        gc.unfreeze()
        self.assertEqual(gc_freeze_ran(), False)

    def test_check_no_pending_signals(self):
        self.assertEqual(check("pending-signal"), True)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        signal.signal(signal.SIGUSR1, lambda x, y: None)
        os.kill(os.getpid(), signal.SIGUSR1)
        self.assertEqual(check("pending-signal"), False)
        self.assertEqual(warmfork.is_safe_to_fork(), False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        self.assertEqual(check("pending-signal"), True)

    def test_check_no_event_loop(self):
        self.assertEqual(check("event-loop"), True)

class AsyncTestSafeFork(unittest.IsolatedAsyncioTestCase):
    async def test_check_no_event_loop(self):
        self.assertEqual(check("event-loop"), False)
        self.assertEqual(warmfork.is_safe_to_fork(), False)

class Examples(unittest.TestCase):
    def test_readme(self):
        gc.disable(); gc.freeze()
        assert warmfork.is_safe_to_fork(), "Uh-oh! The application is unsafe to fork"
        gc.unfreeze(); gc.enable()

result = unittest.TextTestRunner(stream=sys.stderr).run(unittest.defaultTestLoader.loadTestsFromModule(sys.modules["__main__"]))
assert result.wasSuccessful() and result.testsRun == 6
tell()
"""


def test_safeforks_own_tests(python):
    run(python, SAFEFORK)


# What its three examples show, stopped where each of them forks.
EXAMPLES = {
    "event-loop": "import asyncio\nasync def main():\n    asyncio.create_task(asyncio.sleep(2))\n    await asyncio.sleep(0)\n"
                  "    tell()\nasyncio.run(main())\n",
    "pending-signal": "import os, signal\nsignal.signal(signal.SIGUSR1, lambda *args: None)\n"
                      "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})\nos.kill(os.getpid(), signal.SIGUSR1)\ntell()\n",
    "lock": "import threading\nlock = threading.Lock(); held = threading.Event()\n"
            "def function(): lock.acquire(); held.set(); threading.Event().wait()\n"
            "threading.Thread(target=function, name='WorkerThread', daemon=True).start()\nheld.wait(); tell()\n",
}


@pytest.mark.parametrize("code", EXAMPLES)
def test_safeforks_examples(python, code):
    report = run(python, EXAMPLES[code])
    assert not report["safe"] and of(report, code)[0]["severity"] == "unsafe"
    assert json.dumps(report)
