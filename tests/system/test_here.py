"""What an import finds in the working directory is what the program would have found in its own."""

import os

import pytest
from harness import STANDIN, write
from test_preload import with_library
from test_staleness import is_preloaded

pytestmark = pytest.mark.timeout(150)
SHOW = ("-c", "import sys, here_mod; print('here_mod' in sys.modules, here_mod.value)")


@pytest.fixture
def library(warm):
    """here(text): a module of that text is preloaded."""
    def make(text):
        with_library(warm, here_mod=f"import os\n{text}\n")
        warm.environment.update(WARMFORK_PRELOAD="here_mod", PYTHONDONTWRITEBYTECODE="1")

    return make


def directory(warm, name, **files):
    path = f"{warm.work}/{name}"
    os.makedirs(path, exist_ok=True)
    for file, text in files.items():
        write(f"{path}/{file}", text)
    return path


def zygotes(warm):
    return [z for z in warm.status()["zygotes"] if z["preload"] and z["state"] == "ready"]


LOOKS = {
    "exists": "value = os.path.exists('conf')",
    "isfile": "value = os.path.isfile('conf')",
    "lexists": "value = os.path.lexists('conf')",
    "access": "value = os.access('conf', os.R_OK)",
    "dotted": "value = os.path.exists('./conf')",
    "link": "value = os.path.islink('conf')",
    "readlink": "try: value = os.readlink('conf')\nexcept OSError as e: value = e.errno",
    "open": "try: value = open('conf').read()\nexcept OSError as e: value = e.errno",
    "os_open": "try: fd = os.open('conf', 0); value = os.read(fd, 9); os.close(fd)\nexcept OSError as e: value = e.errno",
    "path": "import pathlib; value = pathlib.Path('conf').exists()",
    "scandir": "try: value = [e.name for e in os.scandir('conf')]\nexcept OSError as e: value = e.errno",
    "dir_fd": "fd = os.open('/', os.O_PATH); value = os.access('conf', 0); os.close(fd)",
}


@pytest.mark.every_python
@pytest.mark.parametrize("look", LOOKS)
def test_a_name_in_some_directories(warm, library, look):
    """matplotlib looks for a matplotlibrc. Where there is none the preload serves, wherever that is; where there is one,
    the program gets it."""
    library(LOOKS[look])
    without, other, with_it = directory(warm, "a"), directory(warm, "b"), directory(warm, "c", conf="something")
    is_preloaded(warm, "here_mod", cwd=without)
    for cwd in without, other, with_it, without:
        warm.same(SHOW, cwd=cwd)
    is_preloaded(warm, "here_mod", cwd=other)
    is_preloaded(warm, "here_mod", cwd=with_it)
    for cwd in with_it, other, without, with_it:
        warm.same(SHOW, cwd=cwd)


def test_a_name_that_appears_and_goes(warm, library):
    library(LOOKS["open"])
    cwd = directory(warm, "a")
    is_preloaded(warm, "here_mod", cwd=cwd)
    for text in "first", "second", None, "third":
        write(f"{cwd}/conf", text) if text else os.unlink(f"{cwd}/conf")
        want = warm.run_python(SHOW, cwd=cwd)
        assert warm.run(SHOW, cwd=cwd).out == want.out
        is_preloaded(warm, "here_mod", cwd=cwd)
        assert warm.run(SHOW, cwd=cwd).out == want.out


ASKS = {
    "getcwd": "value = os.getcwd()",
    "abspath": "value = os.path.abspath('x')",
    "dot": "value = os.stat('.').st_ino",
    "listdir": "value = sorted(os.listdir())",
    "upwards": "value = os.path.exists('../marker')",
    "child": "import subprocess; value = subprocess.check_output(['pwd'])",
    "there_and_back": "here = os.open('.', 0); os.chdir('..'); value = os.path.exists('marker'); os.fchdir(here); os.close(here)",
}


@pytest.mark.every_python
@pytest.mark.parametrize("ask", ASKS)
def test_asks_which_directory_it_is(warm, library, ask):
    library(ASKS[ask])
    first, second = directory(warm, "a/inner", file="x"), directory(warm, "b/inner")
    directory(warm, "a", marker="")
    for cwd in first, second:
        is_preloaded(warm, "here_mod", cwd=cwd)
    for cwd in first, second, first, warm.work:
        warm.same(SHOW, cwd=cwd)


@pytest.mark.skipif(STANDIN, reason="runs cold")
def test_more_directories_than_zygotes(warm, library):
    """The last of four zygotes does without what asks for the directory, and serves everywhere: no zygote is thrown away
    for a fifth directory."""
    library("value = os.getcwd()")
    warm.environment["WARMFORK_PRELOAD"] = "here_mod,decimal"
    places = [directory(warm, name) for name in "abcdef"]
    for cwd in places[:3]:
        is_preloaded(warm, "here_mod", cwd=cwd)
    for cwd in places[3:]:
        is_preloaded(warm, "decimal", cwd=cwd)
        warm.same(SHOW, cwd=cwd)
    for cwd in places:
        warm.same(SHOW, cwd=cwd)
    found = zygotes(warm)
    assert sorted(z["directory"] for z in found) == ["", *places[:3]]
    assert any("here_mod: asked for the working directory" in note for z in found for note in z["notes"])
    assert f"only in: {places[0]}" in warm.ctl("status").out.decode()


@pytest.mark.skipif(STANDIN, reason="runs cold")
def test_one_zygote_for_all_where_the_name_is_missing(warm, library):
    library(LOOKS["exists"])
    for name in "abcdef":
        is_preloaded(warm, "here_mod", cwd=directory(warm, name))
    assert [z["directory"] for z in zygotes(warm)] == [""]


def test_a_directory_that_another_one_replaces(warm, library):
    """The same name, and not the same directory."""
    library("value = os.path.exists('conf')")
    cwd = directory(warm, "a", conf="x")
    is_preloaded(warm, "here_mod", cwd=cwd)
    os.rename(cwd, f"{warm.work}/old")
    warm.same(SHOW, cwd=directory(warm, "a"))
    warm.same(SHOW, cwd=f"{warm.work}/old")


def test_a_directory_that_is_gone(warm, library):
    library("try: value = os.getcwd()\nexcept OSError as e: value = e.errno")
    cwd = directory(warm, "a")
    is_preloaded(warm, "here_mod", cwd=cwd)

    def gone():
        directory(warm, "a")
        return {"cwd": cwd, "before": lambda: os.rmdir(cwd)}

    warm.same_as(lambda: SHOW, None, gone)
    warm.same_as(lambda: SHOW, None, gone)


@pytest.mark.parametrize("bound", [True, False])
def test_a_directory_that_is_made_anew_again_and_again(warm, library, bound):
    """As test runners do: what was made ready for the old one goes, and what does not ask serves on."""
    library(f"import time; time.sleep(0.2); value = {'os.getcwd()' if bound else '5'}")
    cwd = directory(warm, "a")
    for _ in range(3):
        for _ in range(3):
            os.rmdir(cwd)
            directory(warm, "a")
            warm.run(SHOW, cwd=cwd)
        is_preloaded(warm, "here_mod", cwd=cwd)
        assert warm.same(SHOW, cwd=cwd).warm or STANDIN


FILES = {
    "exists": "value = os.path.exists({path!r})",
    "stat": "try: value = os.stat({path!r}).st_size\nexcept OSError as e: value = e.errno",
    "in_a_listing": "value = os.listdir(os.path.dirname({path!r}))",
    "walk": "value = [f for _, _, files in os.walk(os.path.dirname({path!r})) for f in files]",
    "dir_fd": "fd = os.open(os.path.dirname({path!r}), os.O_PATH); value = os.path.exists(f'/proc/self/fd/{{fd}}')\n"
              "try: value = os.stat('plugin', dir_fd=fd).st_size\nexcept OSError as e: value = e.errno\nos.close(fd)",
}


@pytest.mark.every_python
@pytest.mark.parametrize("look", FILES)
def test_a_file_elsewhere_that_is_looked_at(warm, library, look):
    """Not opened: its being there is the answer, or how large it is."""
    path = f"{directory(warm, 'plugins')}/plugin"
    library(FILES[look].format(path=path))
    is_preloaded(warm, "here_mod")
    for text in "x", None, "more":
        write(path, text) if text else os.unlink(path)
        want = warm.run_python(SHOW)
        assert warm.run(SHOW).out == want.out
        is_preloaded(warm, "here_mod")
        assert warm.run(SHOW).out == want.out
