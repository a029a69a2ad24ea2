"""The Python package: what it exports, and that its header and library are of use."""

import importlib
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import warmfork
from conftest import ROOT

PROGRAM = r"""
#include <stdio.h>
#include <warmfork.h>

int main(int argc, char **argv) {
    struct warmfork_program program = WARMFORK_PROGRAM_INIT;
    struct warmfork_error error;
    struct warmfork_end end;
    warmfork_run *run;
    (void)argc;
    program.argv = argv;
    if (warmfork_start(&program, &run, &error) != WARMFORK_STARTED) {
        fprintf(stderr, "%s\n", error.text);
        return 99;
    }
    if (warmfork_wait(run, -1, &end, &error) < 0) {
        fprintf(stderr, "%s\n", error.text);
        return 98;
    }
    warmfork_free(run);
    return end.kind == WARMFORK_EXITED ? end.value : 97;
}
"""


def test_exports():
    """Everything that is announced is there, with a docstring, and nothing else is public."""
    look = "import types, warmfork; print(*[n for n, v in vars(warmfork).items() if not isinstance(v, types.ModuleType)])"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert {name for name in done.stdout.split() if not name.startswith("_")} <= set(warmfork.__all__)
    for name in warmfork.__all__:
        value = getattr(warmfork, name)
        assert isinstance(value, str) or value.__doc__, name


def test_one_version_everywhere(bin_dir, env):
    assert warmfork.__version__ == metadata.version("warmfork")
    for argv in (["warmpy", "--warmfork-version"], ["warmctl", "--version"], ["warmforkd", "--version"]):
        done = subprocess.run([bin_dir / argv[0], *argv[1:]], env=env, capture_output=True, text=True, check=True)
        assert warmfork.__version__ in done.stdout.split(), argv


def test_the_pytest_plugin_is_found():
    """By its entry point: nobody has to name it."""
    done = subprocess.run([sys.executable, "-m", "pytest", "--help"], cwd="/", capture_output=True, text=True, check=True)
    assert "--fork-audit-on" in done.stdout


def test_what_zygotes_load_is_in_the_package():
    """The daemon and warmpy look for these files by name, in this folder, from where they lie themselves."""
    folder = Path(sysconfig.get_path("platlib")) / "warmfork"
    for name in ("_zygote.abi3.so", "_observe.so", "boot/boot.py", "cold_init.py", "rehearse.py", "warmup.py"):
        assert (folder / name).is_file(), name


def test_folders_without_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("warmfork._dirs._PACKAGE", tmp_path)
    for function in (warmfork.get_include, warmfork.get_library_dir):
        with pytest.raises(FileNotFoundError, match="installed without"):
            function()


def test_library_runs_a_program_warm(bin_dir, env, tmp_path):
    """A C program that is built as the documentation says runs Python in a zygote, and gets its exit status."""
    source, program = tmp_path / "program.c", tmp_path / "program"
    source.write_text(PROGRAM)
    folder = warmfork.get_library_dir()
    subprocess.run(
        [shutil.which("cc"), "-Wall", "-Werror", source, "-o", program, "-I" + warmfork.get_include(),
         "-L" + folder, "-lwarmfork", "-Wl,-rpath," + folder],
        check=True,
    )
    subprocess.run([bin_dir / "warmctl", "warm"], env=env, check=True)
    done = subprocess.run(
        [program, "-c", "import sys; print(sys.argv[1:]); sys.exit(7)", "a b"],
        env=env, capture_output=True, text=True, check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("['a b']\n", "", 7)


def test_demo(bin_dir):
    """`make demo`, in short: it compares outputs itself, and says so by its exit status."""
    done = subprocess.run(
        [sys.executable, ROOT / "tools/demo.py", "--runs", "1", "--bin", bin_dir],
        capture_output=True, text=True, check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "identical stdout, stderr and exit status: 2 of 2 runs" in done.stdout


def test_wheel_retagged(tmp_path, monkeypatch):
    """The build backend's own part: name, WHEEL and RECORD agree, and modes survive."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    backend = importlib.import_module("build_backend")
    info = "warmfork-0.1.0.dist-info"
    with zipfile.ZipFile(tmp_path / "old.whl", "w") as wheel:
        program = zipfile.ZipInfo("warmfork-0.1.0.data/scripts/warmpy")
        program.external_attr = 0o100755 << 16
        wheel.writestr(program, b"\x7fELF")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: cp312-abi3-linux_x86_64\n")
        wheel.writestr(f"{info}/RECORD", f"{info}/WHEEL,sha256=old,1\n{info}/RECORD,,\n")
    with zipfile.ZipFile(tmp_path / "old.whl") as old, zipfile.ZipFile(tmp_path / "new.whl", "w") as new:
        backend.retag(old, new, "cp312-abi3")
    with zipfile.ZipFile(tmp_path / "new.whl") as wheel:
        assert wheel.getinfo(program.filename).external_attr >> 16 == 0o100755
        tag = wheel.read(f"{info}/WHEEL").decode()
        assert tag.endswith("Tag: cp310-abi3-linux_x86_64\n")
        line = wheel.read(f"{info}/RECORD").decode().splitlines()[0]
        assert line.endswith(f",{len(tag)}") and "sha256=old" not in line
