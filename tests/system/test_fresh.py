"""What every process has for itself is fresh in each run: random numbers, names, ids, times, handlers, caches."""

import pytest

RANDOM = {
    "random": "import random; print(random.random(), random.getrandbits(64))",
    "random_instance": "import random; print(random.Random().random(), random.SystemRandom().random())",
    "random_preloaded_state": "import random; print(random.getstate()[1][:5])",
    "uuid": "import uuid; print(uuid.uuid4())",
    "uuid1": "import uuid; print(uuid.uuid1())",
    "secrets": "import secrets; print(secrets.token_hex())",
    "urandom": "import os; print(os.urandom(16))",
    "tempfile": "import tempfile; print(tempfile.mktemp())",
    "tempfile_names": "import tempfile; print(next(tempfile._get_candidate_names()))",
    "ssl": "import ssl; print(ssl.RAND_bytes(16))",
    "object_of_pid": "import os; print(os.getpid())",
    "numpy": "import numpy; print(numpy.random.random(3), numpy.random.default_rng().random())",
    "multiprocessing_key": "import multiprocessing; print(bytes(multiprocessing.current_process().authkey))",
    "email_boundary": "import email.utils; print(email.utils.make_msgid())",
    "string_io_counter": "import random, string; print(''.join(random.choices(string.ascii_letters, k=20)))",
}


@pytest.mark.parametrize("name", RANDOM)
def test_never_twice_the_same(warm, name, request):
    """With the module imported by the program, and preloaded."""
    args = ["-c", RANDOM[name]]
    if name == "numpy":
        warm.python = warm.environment["WARMFORK_PYTHON"] = request.getfixturevalue("numpy_python")
    module = RANDOM[name].split(";")[0].replace("import ", "")
    for env in ({}, {"WARMFORK_PRELOAD": module.replace(" ", "")}):
        seen = [warm.until_warm(lambda: warm.run(args, env=env)).out]
        for _ in range(8):
            result = warm.run(args, env=env)
            assert result.status == 0, result
            seen.append(result.out)
        assert len(set(seen)) == len(seen), seen


def test_seeded_is_reproducible(shared):
    shared.same(["-c", "import random; random.seed(7); print(random.random(), random.gauss(0, 1), random.gauss(0, 1))"],
                env={"WARMFORK_PRELOAD": "random"})


def test_hash_seed_as_asked(shared):
    for seed in ("0", "1", "4294967295"):
        shared.same(["-c", "print(hash('text'), set('abcdefgh'), hash(b'x'))"], env={"PYTHONHASHSEED": seed})
    shared.same(["-c", "import sys; print(sys.flags.hash_randomization, hash(1.5), hash((1, 2)))"])


def test_clocks_run_from_the_start_of_the_program(shared):
    """CPU time is the program's own: a fresh process has used little."""
    program = "import time, os; t = os.times(); print(time.process_time() < 2, t.user + t.system < 2, t.children_user < 1)"
    shared.same(["-c", program], env={"WARMFORK_PRELOAD": "json,decimal"})


def test_handlers_and_hooks_are_the_defaults(shared):
    program = """
import sys, signal, gc, warnings, threading, atexit, faulthandler, os
print(sys.excepthook, sys.displayhook, sys.unraisablehook, sys.breakpointhook, threading.excepthook)
print(signal.getsignal(2), signal.getsignal(15), signal.set_wakeup_fd(-1), faulthandler.is_enabled())
print(sys.gettrace(), sys.getprofile(), threading.gettrace() if hasattr(threading, 'gettrace') else None)
print(sys.getswitchinterval(), sys.getrecursionlimit(), sys.get_int_max_str_digits(), sys.dont_write_bytecode)
print(atexit._ncallbacks(), len(warnings.filters), sys.warnoptions, sys._xoptions)
print([type(x).__name__ for x in sys.meta_path], len(sys.path_hooks), sys.exc_info())
print(hasattr(sys, 'last_type'), hasattr(sys, 'ps1'), sys.is_finalizing(), sys.flags.interactive, sys.tracebacklimit
      if hasattr(sys, 'tracebacklimit') else 'none')
print(sys.intern('x') is 'x', sys.getallocatedblocks() > 0, sys.get_asyncgen_hooks(), sys.get_coroutine_origin_tracking_depth())
"""
    shared.same(["-W", "ignore", "-c", program.replace("sys.get_int_max_str_digits()",
                                                      "getattr(sys, 'get_int_max_str_digits', int)()")])


def test_nothing_of_the_rehearsal_or_of_other_runs(shared):
    """One run's traces never show in the next: each has its own process."""
    leave = "import sys, builtins, os, json; builtins.trace = sys.trace = os.trace = json.trace = 1; os.environ['TRACE'] = '1'; " \
            "sys.path.append('/trace'); import warnings; warnings.simplefilter('error'); os.chdir('/'); os.umask(0)"
    look = "import sys, builtins, os, json, warnings; print([hasattr(m, 'trace') for m in (sys, builtins, os, json)], " \
           "os.environ.get('TRACE'), '/trace' in sys.path, len(warnings.filters), os.getcwd(), oct(os.umask(0)))"
    shared.same(["-c", look])
    for _ in range(4):
        assert shared.run(["-c", leave]).status == 0
        shared.same(["-c", look])


def test_warnings_are_shown_once_per_run(shared):
    program = "import warnings\nfor i in range(3): warnings.warn('shown once')\nprint(sorted(k for k in globals() if 'warn' in k))"
    for _ in range(3):
        shared.same(["-c", program])
