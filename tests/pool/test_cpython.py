"""CPython's own tests of process pools (test.test_concurrent_futures), taken from the interpreter and run on ForkExecutor.

Adapted in two ways: a mixin makes our executor where theirs makes a ProcessPoolExecutor, and those that look at that class's
private parts, or expect a killed worker to break the pool, are left out below with the reason. An interpreter without the
test package is skipped.
"""

import contextlib
import importlib
import time
import unittest

import pytest
from warmfork import ForkExecutor

LEFT_OUT = {
    "test_killed_child": "one dead worker does not break our pool: test_executor.test_worker_killed",
    "test_traceback": "asks for a private class: test_executor.test_submit",
    "test_saturation": "counts executor._processes",
    "test_idle_process_reuse_one": "counts executor._processes",
    "test_idle_process_reuse_multiple": "counts executor._processes",
    "test_max_tasks_per_child": "looks at executor._processes: test_executor.test_max_tasks_per_child",
    "test_max_tasks_per_child_defaults_to_spawn_context": "looks at private parts; we always fork",
    "test_python_finalization_error": "patches multiprocessing",
    "test_processes_terminate": "looks at executor._processes",
    "test_context_manager_shutdown": "looks at executor._processes: test_executor's fixture",
    "test_del_shutdown": "looks at executor._processes: test_executor.test_dropped_executor_ends",
    "test_shutdown_no_wait": "looks at executor._processes: test_executor.test_shutdown_without_waiting",
    "test_cancel_futures_wait_false": "runs a program with ProcessPoolExecutor in it",
    "test_interpreter_shutdown": "likewise: test_crash.test_program_ends_without_shutdown",
    "test_submit_after_interpreter_shutdown": "likewise",
    "test_hang_gh83386": "likewise",
    "test_hang_gh94440": "patches the class's private parts",
    "test_force_shutdown_workers_invalid_op": "of ProcessPoolExecutor alone",
}
NAMES = ("ExecutorTest", "ProcessPoolExecutorTest", "WaitTests", "AsCompletedTests", "ExecutorShutdownTest",
         "ProcessPoolShutdownTest", "InitializerMixin", "FailingInitializerMixin")


def modules():
    try:
        importlib.import_module("test.test_concurrent_futures")
    except ImportError:
        return []
    found = []
    for part in ("", ".executor", ".test_process_pool", ".test_wait", ".test_as_completed", ".test_shutdown", ".test_init"):
        try:
            found.append(importlib.import_module("test.test_concurrent_futures" + part))
        except ImportError:
            pass
    return found


class Executor(ForkExecutor):
    """With the private attribute that one of the tests waits for."""

    _broken = property(lambda self: self._crew.engine.broken)


class ForkMixin:
    """Makes our executor for a test that was written for theirs."""

    ctx = "fork"
    executor_type = Executor
    worker_count = 5
    executor_kwargs = {}

    def setUp(self):
        super().setUp()
        self.t1 = time.monotonic()  # their tearDown looks at it
        kwargs = {k: v for k, v in self.executor_kwargs.items() if k != "mp_context"}
        self.executor = self.executor_type(self.worker_count, **kwargs)

    def tearDown(self):
        if self.executor is not None:  # one of their mixins has seen to it
            self.executor.shutdown(wait=True)
            self.executor = None
        super().tearDown()

    def get_context(self):
        import multiprocessing

        return multiprocessing.get_context("fork")


def adapted(theirs):
    """A test case of their mixin on our executor."""
    body = {}
    for name in dir(theirs):
        if name in LEFT_OUT:
            body[name] = unittest.skip(LEFT_OUT[name])(lambda self: None)
    bases = (ForkMixin, theirs) if issubclass(theirs, unittest.TestCase) else (ForkMixin, theirs, unittest.TestCase)
    if "InitializerMixin" in theirs.__name__:  # their setUp fills executor_kwargs, before ours makes the executor
        bases = (theirs, ForkMixin, unittest.TestCase)
        body["setUp"] = initializer_set_up
        body["_assert_logged"] = lambda self, text: contextlib.nullcontext()  # ours logs nothing: BrokenPool says it
    return type("Fork" + theirs.__name__, bases, body)


def initializer_set_up(self):
    """Theirs, without the log that only their workers have."""
    failing = "Failing" in type(self).__name__
    module = importlib.import_module(type(self).__mro__[1].__module__)
    if failing:
        self.log_queue = None
        self.executor_kwargs = {"initializer": module.init_fail}
    else:
        module.INITIALIZER_STATUS = "uninitialized"
        self.executor_kwargs = {"initializer": module.init, "initargs": ("initialized",)}
    ForkMixin.setUp(self)


for _module in modules():
    for _name in NAMES:
        if hasattr(_module, _name) and "Fork" + _name not in globals():
            globals()["Fork" + _name] = pytest.mark.filterwarnings("ignore")(adapted(getattr(_module, _name)))


@pytest.mark.skipif(bool(modules()), reason="it is there")
def test_interpreter_without_its_tests():
    pytest.skip("this interpreter came without test.test_concurrent_futures")
