"""What the interpreters find that a program makes beside its own."""

SUBINTERPRETER = """
try: import _interpreters as s
except ImportError: import _xxsubinterpreters as s
i = s.create()
s.run_string(i, {code!r})
s.destroy(i)
"""


def test_subinterpreters_import_the_standard_library(warm):
    """From 3.12 on, the folder of the zygote's first program stands first in their sys.path; once it was that of
    warmfork's own modules, of which one is called `queue`."""
    code = SUBINTERPRETER.format(code="import queue; print(queue.Queue.__module__, queue.__file__, flush=True)")
    warm.same(["-c", code])
