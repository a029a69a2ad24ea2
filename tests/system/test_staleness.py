"""Never a different answer: whatever a preload was made from may change, and the next run knows."""

import os

import pytest
from harness import STANDIN, write

READ = "import stale_mod; print(stale_mod.value)"


@pytest.fixture
def library(warm):
    """A directory on PYTHONPATH with a module that is preloaded. No bytecode is written: python itself takes a .pyc for
    good when its source was changed within the same second to the same size."""
    path = f"{warm.work}/lib"
    os.mkdir(path)
    write(f"{path}/stale_mod.py", "value = 'first'\n")
    warm.environment.update(PYTHONPATH=path, WARMFORK_PRELOAD="stale_mod", PYTHONDONTWRITEBYTECODE="1")
    return path


def expect(warm, text, args=("-c", READ), **how):
    result = warm.run(list(args), **how)
    assert result.out.decode() == f"{text}\n", (text, result)
    return result


def expect_warm(warm, text, args=("-c", READ), **how):
    return warm.until_warm(lambda: expect(warm, text, args, **how))


def is_preloaded(warm, module, **how):
    """Waits until a run finds the module in sys.modules without having imported it."""
    program = f"import sys; sys.exit({module!r} not in sys.modules)"

    def attempt():
        result = warm.run(["-c", program], **how)
        result.warm = result.warm and result.status == 0
        return result

    warm.until_warm(attempt)


@pytest.mark.every_python
def test_edited_twenty_times(warm, library):
    """Each run right after an edit sees it; from time to time we wait for the new preload as well."""
    is_preloaded(warm, "stale_mod")
    expect(warm, "first")
    for i in range(20):
        write(f"{library}/stale_mod.py", f"value = 'edit {'x' * i}'\n")
        expect(warm, f"edit {'x' * i}")
        if i % 6 == 5:
            is_preloaded(warm, "stale_mod")
            expect_warm(warm, f"edit {'x' * i}")


def edit_by_rename(library):
    write(f"{library}/new", "value = 'second'\n")
    os.rename(f"{library}/new", f"{library}/stale_mod.py")


def edit_of_directory(library):
    os.rename(library, library + ".old")
    os.mkdir(library)
    write(f"{library}/stale_mod.py", "value = 'second'\n")


def edit_to_package(library):
    os.mkdir(f"{library}/stale_mod")
    write(f"{library}/stale_mod/__init__.py", "value = 'second'\n")


def edit_in_place(library):
    with open(f"{library}/stale_mod.py", "r+") as file:
        file.write("value = 'second'\n")


def edit_by_open_file(library):
    """Written through a descriptor that was opened long before."""
    with open(f"{library}/stale_mod.py", "w") as file:
        file.write("value = 'second'\n")
        file.flush()
        os.fsync(file.fileno())


@pytest.mark.parametrize("edit", [edit_by_rename, edit_of_directory, edit_to_package, edit_in_place, edit_by_open_file],
                         ids=lambda f: f.__name__)
def test_ways_to_change_a_module(warm, library, edit):
    is_preloaded(warm, "stale_mod")
    edit(library)
    expect(warm, "second")
    expect_warm(warm, "second")


def test_removed_module(warm, library):
    is_preloaded(warm, "stale_mod")
    os.remove(f"{library}/stale_mod.py")
    result = warm.run(["-c", READ])
    assert result.status == 1 and b"No module named 'stale_mod'" in result.err
    write(f"{library}/stale_mod.py", "value = 'back'\n")
    expect(warm, "back")


def test_symlinked_module(warm, library):
    write(f"{warm.work}/one.py", "value = 'one'\n")
    write(f"{warm.work}/two.py", "value = 'two'\n")
    os.remove(f"{library}/stale_mod.py")
    os.symlink("../one.py", f"{library}/stale_mod.py")
    is_preloaded(warm, "stale_mod")
    write(f"{warm.work}/one.py", "value = 'changed target'\n")
    expect(warm, "changed target")
    is_preloaded(warm, "stale_mod")
    os.symlink("../two.py", f"{library}/new")
    os.rename(f"{library}/new", f"{library}/stale_mod.py")
    expect(warm, "two")


def test_module_imported_by_the_preload(warm, library):
    write(f"{library}/stale_mod.py", "from deeper import value\n")
    write(f"{library}/deeper.py", "value = 1\n")
    is_preloaded(warm, "stale_mod")
    for i in range(5):
        write(f"{library}/deeper.py", f"value = {'9' * (i + 1)}\n")
        expect(warm, "9" * (i + 1))


def test_data_file_read_by_the_preload(warm, library):
    write(f"{library}/data.txt", "one")
    write(f"{library}/stale_mod.py", "import os\nvalue = open(os.path.join(os.path.dirname(__file__), 'data.txt')).read()\n")
    is_preloaded(warm, "stale_mod")
    for text in ("two", "three", "four"):
        write(f"{library}/data.txt", text)
        expect(warm, text)


def test_module_that_appears_earlier_on_the_path(warm, library):
    """python would now find another file first."""
    earlier = f"{warm.work}/earlier"
    os.mkdir(earlier)
    warm.environment["PYTHONPATH"] = f"{earlier}:{library}"
    is_preloaded(warm, "stale_mod")
    expect(warm, "first")
    write(f"{earlier}/stale_mod.py", "value = 'earlier'\n")
    expect(warm, "earlier")
    os.remove(f"{earlier}/stale_mod.py")
    expect(warm, "first")


def test_optional_import_that_becomes_possible(warm, library):
    """A module that was looked for in vain is an input too."""
    write(f"{library}/stale_mod.py", "try:\n    from accelerator import value\nexcept ImportError:\n    value = 'slow'\n")
    is_preloaded(warm, "stale_mod")
    expect(warm, "slow")
    write(f"{library}/accelerator.py", "value = 'fast'\n")
    expect(warm, "fast")


@pytest.mark.every_python
def test_module_beside_the_script(warm):
    """json.py beside the script hides the preloaded json, for the script and for what it imports."""
    warm.environment["WARMFORK_PRELOAD"] = "json"
    is_preloaded(warm, "json")
    os.mkdir(f"{warm.work}/project")
    write(f"{warm.work}/project/json.py", "name = 'mine'\n")
    script = write(f"{warm.work}/project/main.py", "import json, sys; print(json.name, sys.modules['json'].__file__)\n")
    warm.same([script], warm=None)
    warm.same(["project/main.py"], warm=None)
    warm.same(["-m", "project.main"], warm=None)
    warm.same(["-c", "import json; print(json.__name__, json.__file__)"], cwd=f"{warm.work}/project", warm=None)
    warm.same(["-m", "main"], cwd=f"{warm.work}/project", warm=None)
    warm.same(["-I", script], warm=None)
    warm.same(["project"], warm=None)


def test_package_beside_the_script(warm):
    warm.environment["WARMFORK_PRELOAD"] = "json,decimal"
    is_preloaded(warm, "json")
    os.makedirs(f"{warm.work}/project/json")
    write(f"{warm.work}/project/json/__init__.py", "name = 'package'\n")
    script = write(f"{warm.work}/project/main.py", "import json, decimal; print(json.name, decimal.__file__)\n")
    warm.same([script], warm=None)
    os.makedirs(f"{warm.work}/other/decimal")  # a namespace package does not hide a regular module
    other = write(f"{warm.work}/other/main.py", "import json, decimal; print(json.__file__, decimal.__file__)\n")
    warm.same([other], warm=None)


def test_file_that_is_no_module_beside_the_script(warm):
    """A console script has the name of the package that it starts, in the directory that python puts in sys.path."""
    warm.environment["WARMFORK_PRELOAD"] = "json,decimal"
    is_preloaded(warm, "decimal")
    os.mkdir(f"{warm.work}/bin")
    script = write(f"{warm.work}/bin/json", "import sys; print('decimal' in sys.modules)\nimport json; print(json.loads('[1]'))\n")
    assert warm.until_warm(lambda: warm.run([script])).out == b"True\n[1]\n" or STANDIN
    os.mkdir(f"{warm.work}/elsewhere")
    write(f"{warm.work}/elsewhere/__init__.py", "print('the package beside it')\n")
    os.symlink("../elsewhere", f"{warm.work}/bin/decimal")
    assert warm.until_warm(lambda: warm.run([script])).out == b"False\n[1]\n"


def test_module_of_the_bare_interpreter_beside_the_script(warm):
    """What python itself has loaded before (os, codecs) is not hidden in python either."""
    os.mkdir(f"{warm.work}/project")
    for name in ("os", "codecs", "io", "warnings", "linecache", "runpy", "types", "string"):
        write(f"{warm.work}/project/{name}.py", f"print('mine', {name!r})\n")
    script = write(f"{warm.work}/project/main.py",
                   "import sys, io, codecs\nprint(sorted(sys.modules))\nimport string, types, warnings, linecache\n")
    warm.same([script], warm=None)
    warm.same([script], warm=None, env={"WARMFORK_PRELOAD": "string"})


def test_shadowing_file_that_appears(warm):
    """The first run has no such file beside it, the second has, the third again not."""
    warm.environment["WARMFORK_PRELOAD"] = "json"
    is_preloaded(warm, "json")
    os.mkdir(f"{warm.work}/project")
    script = write(f"{warm.work}/project/main.py", "import json; print(getattr(json, 'name', 'library'))\n")
    expect_warm(warm, "library", [script])
    for suffix in ("json.py", "json.cpython-none.so", "json.so", "json"):
        path = f"{warm.work}/project/{suffix}"
        if suffix == "json.py":
            write(path, "name = 'mine'\n")
        elif suffix == "json":
            os.mkdir(path)
            write(f"{path}/__init__.py", "name = 'mine'\n")
        else:
            write(path, "not an object")
        warm.same([script], warm=None)
        os.rename(path, path + ".away")
        warm.same([script], warm=None)


ENVIRONMENT_READERS = {
    "environ": "import os\nvalue = os.environ.get('MODE', 'unset')",
    "getenv": "import os\nvalue = os.getenv('MODE', 'unset')",
    "contains": "import os\nvalue = 'MODE' in os.environ",
    "index": "import os\ntry:\n    value = os.environ['MODE']\nexcept KeyError:\n    value = 'unset'",
    "bytes": "import os\nvalue = os.environb.get(b'MODE', b'unset')",
    "items": "import os\nvalue = sorted(k + v for k, v in os.environ.items() if k == 'MODE')",
    "copy": "import os\nvalue = dict(os.environ).get('MODE', 'unset')",
    "c": "import ctypes\ng = ctypes.CDLL(None).getenv\ng.restype = ctypes.c_char_p\nvalue = g(b'MODE')",
    "posix": "import posix\nvalue = posix.environ.get(b'MODE')",
    "child": "import subprocess\nvalue = subprocess.run(['/bin/sh', '-c', 'echo ${MODE-unset}'], capture_output=True).stdout",
    "expand": "import os.path\nvalue = os.path.expandvars('$MODE')",
    "home": "import os.path\nvalue = os.path.expanduser('~')",
    "proc": "value = [e for e in open('/proc/self/environ', 'rb').read().split(b'\\0') if e[:5] == b'MODE=']",
}


@pytest.mark.parametrize("reader", ENVIRONMENT_READERS)
def test_environment_consulted_by_the_preload(warm, library, reader):
    """Every run has the value of its own environment; values take turns."""
    write(f"{library}/stale_mod.py", ENVIRONMENT_READERS[reader] + "\n")
    for mode in ("a", "b", None, "a", "", "c", "b", None, "d", "e", "a"):
        env = {"MODE": mode}
        if reader == "home":
            env = {"HOME": f"/tmp/{mode}"}
        warm.same(["-c", READ], env=env, warm=None)
    for mode in ("a", "b"):
        warm.until_warm(lambda: warm.run(["-c", READ], env={"MODE": mode}))
        warm.same(["-c", READ], env={"MODE": mode})
        warm.same(["-c", READ], env={"MODE": mode, "UNRELATED": "x"})


def test_more_values_than_variants(warm, library):
    write(f"{library}/stale_mod.py", ENVIRONMENT_READERS["environ"] + "\n")
    for _ in range(3):
        for i in range(8):
            expect(warm, f"mode {i}", env={"MODE": f"mode {i}"})


def test_unrelated_variables_do_not_matter(warm, library):
    write(f"{library}/stale_mod.py", ENVIRONMENT_READERS["environ"] + "\n")
    is_preloaded(warm, "stale_mod", env={"MODE": "x"})
    for i in range(5):
        result = expect(warm, "x", env={"MODE": "x", "OTHER": str(i), f"NEW{i}": "1"})
        assert result.warm or STANDIN


def test_numerical_libraries_and_their_threads(warm, numpy_python):
    """OPENBLAS_NUM_THREADS and OMP_NUM_THREADS are read in C while the library is loaded."""
    warm.python = warm.environment["WARMFORK_PYTHON"] = numpy_python
    program = """
import ctypes, numpy
found = {line.split()[5] for line in open('/proc/self/maps') if 'openblas' in line.lower()}
names = ['scipy_openblas_get_num_threads64_', 'openblas_get_num_threads64_', 'openblas_get_num_threads']
for path in found:
    lib = ctypes.CDLL(path)
    print([getattr(lib, name)() for name in names if hasattr(lib, name)])
print(numpy.ones((50, 50)).dot(numpy.ones((50, 50))).sum())
"""
    for threads in ("1", "2", None, "1", "2"):
        env = {"WARMFORK_PRELOAD": "numpy", "OPENBLAS_NUM_THREADS": threads}
        warm.same(["-c", program], env=env, warm=None)
    warm.same(["-c", program], env={"WARMFORK_PRELOAD": "numpy", "OPENBLAS_NUM_THREADS": "1"})


def test_user_site_that_appears(warm):
    """usercustomize and the user's site-packages are read at python's start: their coming is seen."""
    warm.ready()
    show = ["-c", "import sys; print(sys.path, getattr(sys, 'customized', None))"]
    warm.same(show)
    site = warm.run_python(["-m", "site", "--user-site"]).out.decode().strip()
    os.makedirs(site)
    warm.same(show, warm=None)
    write(f"{site}/usercustomize.py", "import sys; sys.customized = 'by user'\n")
    warm.same(show, warm=None)
    write(f"{site}/extra.pth", "import sys; sys.customized = 'by pth'\n")
    warm.same(show, warm=None)
    write(f"{site}/usercustomize.py", "import sys; sys.customized = 'again, by user'\n")
    warm.same(show, warm=None)
    os.remove(f"{site}/usercustomize.py")
    warm.same(show, warm=None)


def test_virtual_environment_that_changes(warm):
    venv = f"{warm.work}/venv"
    assert warm.run_python(["-m", "venv", "--without-pip", venv]).status == 0
    warm.python = warm.environment["WARMFORK_PYTHON"] = f"{venv}/bin/python3"
    show = ["-c", "import sys; print(sys.path, sys.prefix, getattr(sys, 'customized', None))"]
    warm.same(show)
    config = open(f"{venv}/pyvenv.cfg").read()
    write(f"{venv}/pyvenv.cfg", config.replace("system-site-packages = false", "system-site-packages = true"))
    warm.same(show, warm=None)
    write(f"{venv}/pyvenv.cfg", config)
    site = warm.run_python(["-c", "import site; print(site.getsitepackages()[0])"]).out.decode().strip()
    warm.same(show)
    write(f"{site}/new.pth", "import sys; sys.customized = 'by pth'\n")
    warm.same(show, warm=None)
    write(f"{site}/sitecustomize.py", "import sys; sys.customized = 'by sitecustomize'\n")
    warm.same(show, warm=None)
