"""What a program sees of its interpreter: sys, __main__, the frames, the modules, the recursion limit."""

import os

import pytest
from harness import write

FACTS = {
    "argv": "sys.argv", "orig_argv": "sys.orig_argv", "flags": "sys.flags", "executable": "sys.executable",
    "path": "sys.path", "prefixes": "(sys.prefix, sys.base_prefix, sys.exec_prefix, sys.platlibdir)",
    "version": "(sys.version, sys.version_info, sys.hexversion, sys.implementation)", "xoptions": "sys._xoptions",
    "base_executable": "sys._base_executable", "warnoptions": "sys.warnoptions", "stdlib": "getattr(sys, '_stdlib_dir', 0)",
    "main_keys": "list(vars(sys.modules['__main__']))", "name": "__name__", "spec": "__spec__", "doc": "__doc__",
    "package": "__package__", "loader": "(type(__loader__), getattr(__loader__, '__name__', 0), getattr(__loader__, 'path', 0))",
    "builtins": "__builtins__", "annotations": "globals().get('__annotations__')", "cached": "globals().get('__cached__')",
    "file": "globals().get('__file__')", "back": "sys._getframe().f_back", "frame": "sys._getframe().f_code.co_name",
    "globals": "globals() is vars(sys.modules['__main__'])", "builtin_names": "sys.builtin_module_names",
    "filename": "sys._getframe().f_code.co_filename", "modules": "[name for name in sys.modules if name != '__main__'][:40]",
    "path0": "sys.path[0]", "importer_cache": "sorted(sys.path_importer_cache)", "meta_path": "sys.meta_path",
    "limits": "(sys.getrecursionlimit(), sys.maxsize, sys.getswitchinterval())", "encoding": "sys.getdefaultencoding()",
    "stack": "__import__('traceback').format_stack()", "current_frames": "len(sys._current_frames())",
    "site": "(sys.modules['site'].ENABLE_USER_SITE, sys.modules['site'].PREFIXES, sys.modules['site'].USER_SITE)",
    "copyright": "(exit, quit, copyright.__class__, help)", "thread": "[t.name for t in __import__('threading').enumerate()]",
    "inspect": "__import__('inspect').stack()[0][1:4]", "main_repr": "sys.modules['__main__']",
    "locale": "(__import__('locale').setlocale(6), __import__('locale').getpreferredencoding())",
    "ps": "sorted(set(dir(sys)))", "abiflags": "sys.abiflags", "displayhook": "sys.displayhook",
    "refcount_of_main": "sys.getrefcount(sys.modules['__main__']) > 0", "cwd": "__import__('os').getcwd()",
    "sysconfig": "__import__('sysconfig').get_paths()", "umask": "__import__('os').umask(0o22)",
    "platform": "__import__('platform').python_build()", "dir": "dir()",
}


@pytest.mark.parametrize("fact", FACTS)
def test_fact(shared, fact):
    program = f"import sys; print(ascii({FACTS[fact]}))"
    shared.same(["-c", program, "arg"])
    shared.same([write(f"{shared.work}/fact_{fact}.py", f'"""A docstring."""\n{program}\n'), "arg"])


def test_all_facts_for_every_way_to_run(shared):
    program = "import sys\n" + "\n".join(f"print({name!r}, ascii({text}))" for name, text in FACTS.items()) + "\n"
    write(f"{shared.work}/all_facts.py", f'"""A docstring."""\n{program}')
    shared.same(["all_facts.py"])
    shared.same(["-m", "all_facts", "arg"])
    shared.same(["-", "arg"], input=program.encode())
    shared.same([], input=program.encode())
    os.makedirs(f"{shared.work}/facts", exist_ok=True)
    write(f"{shared.work}/facts/__main__.py", program)
    shared.same(["facts"])
    shared.same(["-m", "facts"])


def test_modules_of_a_bare_program(shared):
    """Without a preload, exactly the modules that python has."""
    program = "import sys; print(sorted(sys.modules)); print([m for m in sys.modules if m != '__main__'])"
    shared.same(["-c", program])
    shared.same([write(f"{shared.work}/bare.py", program)])
    shared.same(["-S", "-c", program])
    shared.same(["-I", "-c", program])
    shared.same([], input=program.encode())


def test_modules_of_a_module_run(shared):
    write(f"{shared.work}/bare_module.py", "import sys; print(sorted(sys.modules))\n")
    shared.same(["-m", "bare_module"])


@pytest.mark.parametrize("limit", [None, 150, 5000, 40000])
def test_recursion_depth(shared, limit):
    """RecursionError comes at python's own depth: no frame lies below __main__."""
    change = f"sys.setrecursionlimit({limit})" if limit else ""
    program = f"""
import sys
{change}
depth = 0
def down():
    global depth
    depth += 1
    down()
try:
    down()
except RecursionError as e:
    print(depth, e)
"""
    shared.same(["-c", program])
    shared.same([write(f"{shared.work}/deep.py", program)])
    write(f"{shared.work}/deep_module.py", program)
    shared.same(["-m", "deep_module"])


def test_recursion_in_c(shared):
    """Also where C code recurses, and where the C stack is what ends it."""
    shared.same(["-c", "import json\nx = []\nfor _ in range(100000): x = [x]\ntry: json.dumps(x)\nexcept RecursionError as e: print(e)"])
    shared.same(["-c", "x = '(' * 150 + ')' * 150\ntry: eval(x)\nexcept Exception as e: print(type(e), e)"])
    shared.same(["-c", "class A:\n  def __repr__(s): return repr(s)\ntry: repr(A())\nexcept RecursionError as e: print(e)"])


def test_stack_of_the_main_thread(shared):
    """As deep as the limit of the stack allows: a preloaded interpreter has no smaller stack."""
    program = "import sys, resource; sys.setrecursionlimit(10**6)\ndef f(n): return n and f(n - 1)\nprint(f(8000))\n" \
              "import functools\n@functools.lru_cache\ndef g(n): return n and g(n - 1)\nprint(g(2500))"
    shared.same(["-c", program])


def test_frames(shared):
    program = """
import sys, traceback, inspect, threading
def f():
    print(len(inspect.stack()), [x.name for x in traceback.extract_stack()], sys._getframe(1).f_back)
f()
traceback.print_stack()
print(sys._getframe().f_lineno, sys._getframe().f_trace, sys._getframe().f_locals is globals())
try: sys._getframe(5)
except ValueError as e: print(e)
"""
    shared.same(["-c", program])
    path = write(f"{shared.work}/frames.py", program)
    shared.same([path])
    shared.same(["-m", "frames"])
    shared.same(["-"], input=program.encode())


def test_main_can_be_imported_and_pickled(shared):
    program = "import pickle, __main__\nclass C: x = 1\nprint(__main__.C is C, pickle.loads(pickle.dumps(C())).x, __main__)"
    shared.same(["-c", program])
    shared.same([write(f"{shared.work}/pickled.py", program)])


def test_source_lines_in_tracebacks_and_inspect(shared):
    program = "import inspect, linecache\ndef f(): pass\n" \
              "try: print(inspect.getsource(f))\nexcept OSError as e: print(e)\nprint(linecache.getline(__file__, 2))"
    shared.same([write(f"{shared.work}/source.py", program)])
    shared.same(["-c", "import inspect\ndef f(): pass\ntry: print(inspect.getsource(f))\nexcept OSError as e: print(e)"])


def test_same_script_edited_between_runs(shared):
    """The script itself is read anew each time, also when its size and time stay the same."""
    path = f"{shared.work}/edited.py"
    for i in range(12):
        write(path, f"print({i % 10})\n")
        os.utime(path, (1, 1))
        assert shared.same([path], warm=True if i == 0 else None).out == b"%d\n" % (i % 10)


def test_imported_neighbour_edited_between_runs(shared):
    script = write(f"{shared.work}/imports_it.py", "import edited_neighbour; print(edited_neighbour.value)\n")
    for i in range(12):
        write(f"{shared.work}/edited_neighbour.py", f"value = {'x' * i!r}\n")
        assert shared.run([script]).out == b"x" * i + b"\n"


def test_virtual_environment(warm):
    """A venv's python keeps its prefix, its packages and its name."""
    venv = f"{warm.work}/venv"
    made = warm.run_python(["-m", "venv", "--without-pip", venv])
    assert made.status == 0, made
    python = f"{venv}/bin/python3"
    site = warm.spawn([python, "-c", "import site; print(site.getsitepackages()[0])"]).finish().out.decode().strip()
    write(f"{site}/only_in_venv.py", "where = __file__\n")
    program = "import sys, only_in_venv; print(sys.prefix, sys.base_prefix, sys.executable, sys.path, only_in_venv.where)"
    warm.environment["WARMFORK_PYTHON"], warm.python = python, python
    warm.same(["-c", program])
    warm.same(["-I", "-c", program])


def test_virtual_env_variable_chooses_the_interpreter(warm):
    venv = f"{warm.work}/active"
    assert warm.run_python(["-m", "venv", "--without-pip", venv]).status == 0
    warm.python = f"{venv}/bin/python3"
    del warm.environment["WARMFORK_PYTHON"]
    warm.environment.update(VIRTUAL_ENV=venv, PATH=f"{venv}/bin:{warm.environment['PATH']}")
    got = warm.until_warm(lambda: warm.run(["-c", "import sys; print(sys.prefix)"]))
    assert got.out.decode().strip() == venv


def test_shebang(warm):
    path = write(f"{warm.work}/tool", "#!/usr/bin/env warmpy\nimport sys; print(sys.argv, __name__)\n", 0o755)
    warm.environment["PATH"] = f"{warm.bin}:{warm.environment['PATH']}"
    got = warm.until_warm(lambda: warm.spawn([path, "a", "b c"]).finish())
    assert got.out == f"['{path}', 'a', 'b c'] __main__\n".encode()
