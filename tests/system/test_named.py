"""Named zygotes and init sections: made once, used by name, the same program cold."""

import json
import os

import pytest
from harness import STANDIN, write

pytestmark = pytest.mark.skipif(STANDIN, reason="needs the real binaries")
INIT = 'import re\npattern = re.compile(r"(hello)(world)")\ncount = [0]\nprint_later = "from init"\n'
RUN = 'print(pattern.match("helloworld").groups(), __name__, __file__)\n'


def start(warm, name, *args, **how):
    result = warm.ctl("start", name, *args, **how)
    assert result.status == 0, (result, warm.log())
    return result


@pytest.mark.every_python
def test_preload_by_name(warm):
    start(warm, "tools", "--preload", "json,decimal")
    env = {"WARMFORK_ZYGOTE": "tools"}
    result = warm.run(["-c", "import sys; print('json' in sys.modules, 'decimal' in sys.modules)"], env=env)
    assert (result.out, result.err, result.status) == (b"True True\n", b"", 0)
    assert result.warm, "the first run after `warmctl start` is warm: it had waited"
    warm.same(["-c", "import json, sys; print(json.dumps(sys.argv))", "x"], env=env)
    zygotes = [zygote for zygote in warm.status()["zygotes"] if zygote["name"] == "tools"]
    assert zygotes and "decimal" in zygotes[0]["preload"]


@pytest.mark.every_python
def test_init_section(warm):
    """The example of every earlier tool: a pattern compiled in init, matched in run."""
    start(warm, "re", "--init", write(f"{warm.work}/init.py", INIT))
    script = write(f"{warm.work}/run.py", RUN)
    want = f"('hello', 'world') __main__ {script}\n".encode()
    for _ in range(3):
        result = warm.run([script], env={"WARMFORK_ZYGOTE": "re"})
        assert (result.out, result.err, result.status) == (want, b"", 0)
        assert result.warm
    result = warm.run([script], env={"WARMFORK_ZYGOTE": "re", "WARMFORK_COLD": "1"})
    assert (result.out, result.err, result.status, result.warm) == (want, b"", 0, False)


def test_both_sections_are_one_program(warm):
    """Warm and cold are the same program: names, argv, exceptions, statuses, every way to name the run section."""
    init = "import sys\nseen = sys.modules['__main__'].__dict__ is globals()\n" \
           "def double(x): return 2 * x\nclass Made: value = 5\n"
    start(warm, "both", "--init", write(f"{warm.work}/init.py", init))
    program = "import sys; print(seen, double(4), Made.value, Made.__module__, sys.argv, __name__, double.__globals__ is globals())"
    write(f"{warm.work}/module_run.py", program + "\nimport sys\nsys.exit(7)\n")
    for args in (["-c", program, "a b", ""], [f"{warm.work}/module_run.py", "x"], ["module_run.py"], ["-m", "module_run"],
                 ["-c", "1/0"], ["-c", "raise SystemExit('text')"], ["-c", "print(undefined_name)"]):
        cold = warm.run(args, env={"WARMFORK_ZYGOTE": "both", "WARMFORK_COLD": "1"})

        def attempt():
            got = warm.run(args, env={"WARMFORK_ZYGOTE": "both"})
            assert (got.out, got.status) == (cold.out, cold.status), (args, cold, got)
            assert bool(got.err) == bool(cold.err), (args, cold, got)
            return got

        warm.until_warm(attempt)


def test_runs_do_not_see_each_other(warm):
    start(warm, "count", "--init", write(f"{warm.work}/init.py", INIT))
    for _ in range(4):
        result = warm.run(["-c", "count[0] += 1; print(count[0])"], env={"WARMFORK_ZYGOTE": "count"})
        assert result.out == b"1\n"


def test_edited_init_section(warm):
    init = write(f"{warm.work}/init.py", "value = 0\n")
    start(warm, "edited", "--init", init)
    env = {"WARMFORK_ZYGOTE": "edited"}
    for i in range(1, 8):
        write(init, f"value = {'7' * i}\n")
        result = warm.run(["-c", "print(value)"], env=env)
        assert (result.out, result.status) == (b"7" * i + b"\n", 0), result
    warm.until_warm(lambda: warm.run(["-c", "print(value)"], env=env))


@pytest.mark.every_python
def test_files_beside_an_init_section(warm):
    """Programs are written beside it: only what its imports would find there, or code of its own has listed, is an input."""
    init = "import colorsys\ntry: import plugin\nexcept ImportError: plugin = None\n" \
           "print_it = lambda: print(colorsys.__file__, plugin)\n"
    start(warm, "beside", "--init", write(f"{warm.work}/init.py", init))
    env = {"WARMFORK_ZYGOTE": "beside"}
    for i in range(3):
        program = write(f"{warm.work}/program_{i}.py", "print_it()")
        assert warm.run([program], env=env).warm or STANDIN
    for name in "plugin", "colorsys":
        write(f"{warm.work}/{name}.py", "")
        cold = warm.run([program], env=env | {"WARMFORK_COLD": "1"})
        result = warm.until_warm(lambda: warm.run([program], env=env))
        assert (result.out, result.status) == (cold.out, 0)
        assert f"{warm.work}/{name}.py".encode() in result.out


def test_file_beside_an_init_section_that_hides_a_preload(warm):
    """The init section would have found another module than the preloaded one: it is not served from there."""
    init = write(f"{warm.work}/init.py", "import colorsys\n")
    start(warm, "hides", "--init", init, "--preload", "colorsys")
    env = {"WARMFORK_ZYGOTE": "hides"}
    program = ["-c", "print(colorsys.__file__)"]
    warm.until_warm(lambda: warm.run(program, env=env, cwd="/"))
    hiding = write(f"{warm.work}/colorsys.py", "")
    for _ in range(3):
        result = warm.run(program, env=env, cwd="/")
        assert result.out.decode() == hiding + "\n" and not result.warm
    os.unlink(hiding)
    result = warm.until_warm(lambda: warm.run(program, env=env, cwd="/"))
    assert b"/lib/" in result.out


@pytest.mark.every_python
def test_init_section_that_lists_its_directory(warm):
    init = f"import colorsys, os\nfound = sorted(n for n in os.listdir({warm.work!r}) if n.endswith('.txt'))\n"
    start(warm, "lists", "--init", write(f"{warm.work}/init.py", init))
    for name in "a.txt", "b.txt":
        write(f"{warm.work}/{name}", "")
        result = warm.until_warm(lambda: warm.run(["-c", "print(found)"], env={"WARMFORK_ZYGOTE": "lists"}))
        assert name.encode() in result.out


def test_init_section_and_environment(warm):
    """What the init section read from the environment is that of the run."""
    start(warm, "env", "--init", write(f"{warm.work}/init.py", "import os\nmode = os.environ.get('MODE', 'unset')\n"))
    for mode in ("a", None, "b", "a"):
        result = warm.run(["-c", "print(mode)"], env={"WARMFORK_ZYGOTE": "env", "MODE": mode})
        assert result.out.decode() == f"{mode or 'unset'}\n"


@pytest.mark.parametrize("text", ["1/0\n", "def (\n", "import sys; sys.exit(4)\n", "import os; os._exit(3)\n",
                                  "import missing_module_y\n", "import os; os.kill(os.getpid(), 11)\n"])
def test_init_section_that_fails(warm, text):
    """`warmctl start` says what went wrong; so do status and log; a run ends as the two sections end cold."""
    init = write(f"{warm.work}/broken_init.py", text)
    result = warm.ctl("start", "broken", "--init", init)
    assert result.status == 1 and result.err.strip(), result
    assert "broken" in json.dumps(warm.status()) and "broken" in warm.log()
    cold = warm.run(["-c", "print('run section')"], env={"WARMFORK_ZYGOTE": "broken", "WARMFORK_COLD": "1"})
    got = warm.run(["-c", "print('run section')"], env={"WARMFORK_ZYGOTE": "broken"})
    assert (got.out, got.status) == (cold.out, cold.status)


def test_preload_that_fails_is_told(warm):
    result = warm.ctl("start", "half", "--preload", "json,missing_module_z")
    assert b"missing_module_z" in result.err + result.out
    got = warm.run(["-c", "print(1)"], env={"WARMFORK_ZYGOTE": "half"})
    assert (got.out, got.status) == (b"1\n", 0)
    assert "missing_module_z" in json.dumps(warm.status()) and "missing_module_z" in warm.log()


@pytest.mark.parametrize("name", ["unknown", "../daemon", "a/b", "x" * 300, " ", ".", "..", "daemon.sock", "ünknown"])
def test_unknown_name(warm, name):
    """One clear line, and the program runs."""
    result = warm.run(["-c", "import sys; print('runs'); sys.exit(3)"], env={"WARMFORK_ZYGOTE": name})
    assert (result.out, result.status) == (b"runs\n", 3)
    assert result.err.count(b"\n") == 1 and result.err.startswith(b"warmpy: "), result.err


def test_empty_name_is_no_name(warm):
    warm.same(["-c", "print('runs')"], env={"WARMFORK_ZYGOTE": ""})


@pytest.mark.parametrize("args", [
    ["start"], ["start", "../x", "--preload", "json"], ["start", "a/b"], ["start", ""], ["start", "x", "--unknown"],
    ["start", "x", "y"], ["nonsense"], [], ["status", "--unknown"], ["start", "x", "--preload"], ["logs", "-n"],
])
def test_wrong_usage(warm, args):
    result = warm.ctl(*args)
    assert result.status == 2 and result.err and not result.out, result


def test_missing_init_file(warm):
    result = warm.ctl("start", "x", "--init", f"{warm.work}/missing.py")
    assert result.status != 0 and b"missing.py" in result.err and b"No such file" in result.err
    assert result.err.count(b"\n") == 1


def test_start_with_missing_python(warm):
    result = warm.ctl("start", "x", "--preload", "json", "--python", "/nonexistent/python3")
    assert result.status != 0 and b"/nonexistent/python3" in result.err


def test_several_names_and_stopping_one(warm):
    start(warm, "one", "--preload", "json")
    start(warm, "two", "--preload", "decimal")
    look = ["-c", "import sys; print('json' in sys.modules, 'decimal' in sys.modules)"]
    assert warm.run(look, env={"WARMFORK_ZYGOTE": "one"}).out == b"True False\n"
    assert warm.run(look, env={"WARMFORK_ZYGOTE": "two"}).out == b"False True\n"
    assert warm.run(look).out == b"False False\n"
    assert warm.ctl("stop", "one").status == 0
    assert [z["name"] for z in warm.status()["zygotes"] if z["name"]] == ["two"]
    result = warm.run(["-c", "print(1)"], env={"WARMFORK_ZYGOTE": "two"})
    assert result.warm and result.out == b"1\n"
    assert warm.ctl("stop", "no_such_name").status != 0


def test_defined_again(warm):
    start(warm, "again", "--preload", "json")
    start(warm, "again", "--preload", "decimal")
    look = ["-c", "import sys; print('decimal' in sys.modules)"]
    assert warm.run(look, env={"WARMFORK_ZYGOTE": "again"}).out == b"True\n"


def test_in_another_context(warm):
    """A definition serves every context of its user: a zygote is made on demand."""
    start(warm, "tools", "--init", write(f"{warm.work}/init.py", INIT))
    env = {"WARMFORK_ZYGOTE": "tools"}
    program = ["-O", "-c", "print(pattern.pattern, __debug__)"]

    def attempt():
        result = warm.run(program, env=env)
        assert (result.out, result.err) == (b"(hello)(world) False\n", b""), result
        return result

    warm.until_warm(attempt)


def test_options_of_python(warm):
    start(warm, "opt", "--preload", "json", "--", "-OO", "-B")
    result = warm.run(["-OO", "-B", "-c", "import sys; print('json' in sys.modules, sys.flags.optimize)"],
                      env={"WARMFORK_ZYGOTE": "opt"})
    assert result.warm and result.out == b"True 2\n"


def test_definition_survives_the_daemon(warm):
    start(warm, "kept", "--init", write(f"{warm.work}/init.py", INIT))
    daemons = warm.daemons()
    for pid in daemons:
        os.kill(pid, 9)
    result = warm.run(["-c", "print(print_later)"], env={"WARMFORK_ZYGOTE": "kept"})
    assert result.out == b"from init\n"
    warm.ready(options=["-B"])


def test_without_any_daemon(warm):
    """`warmctl stop` has been: names are still known, and the run is correct, whether warm or cold."""
    start(warm, "kept", "--init", write(f"{warm.work}/init.py", INIT))
    assert warm.ctl("stop").status == 0
    result = warm.run(["-c", "print(print_later)"], env={"WARMFORK_ZYGOTE": "kept"})
    assert (result.out, result.status) in ((b"from init\n", 0), (b"", 1))
    if result.status:
        assert b"kept" in result.err


def test_preload_and_name_together(warm):
    start(warm, "tools", "--preload", "json")
    warm.same(["-c", "import decimal, json; print(json.dumps(str(decimal.Decimal(1))))"],
              env={"WARMFORK_ZYGOTE": "tools", "WARMFORK_PRELOAD": "decimal"}, warm=None)


def test_init_that_reads_itself(warm):
    """__file__, sys.argv and __name__ while the init section runs."""
    init = write(f"{warm.work}/init.py", "import os\ninit_name = __name__\ninit_dir = os.path.basename(globals().get('__file__', 'none'))\n")
    start(warm, "self", "--init", init)
    program = ["-c", "print(init_name, init_dir)"]
    cold = warm.run(program, env={"WARMFORK_ZYGOTE": "self", "WARMFORK_COLD": "1"})
    got = warm.run(program, env={"WARMFORK_ZYGOTE": "self"})
    assert (got.out, got.err, got.status) == (cold.out, cold.err, cold.status)
    assert got.out.startswith(b"__main__")


def test_init_with_module_beside_it(warm):
    os.mkdir(f"{warm.work}/place")
    write(f"{warm.work}/place/beside.py", "value = 'beside init'\n")
    init = write(f"{warm.work}/place/init.py", "import sys, os\nsys.path.insert(0, os.path.dirname(__file__))\nimport beside\n"
                 "sys.path.pop(0)\n")
    start(warm, "beside", "--init", init)
    program = ["-c", "import sys; print(beside.value, sys.path[0])"]
    cold = warm.run(program, env={"WARMFORK_ZYGOTE": "beside", "WARMFORK_COLD": "1"})
    got = warm.run(program, env={"WARMFORK_ZYGOTE": "beside"})
    assert (got.out, got.err) == (cold.out, cold.err)
