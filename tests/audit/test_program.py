"""warmctl audit: names the import that brought a hazard."""

import json
import os
import subprocess

import pytest
from audit_harness import clean_environment

SPAWNS = "import threading\nthreading.Thread(target=threading.Event().wait, name='metrics', daemon=True).start()\n"


@pytest.fixture
def audit(warmctl, python, tmp_path):
    def run(*args, status, **files):
        for name, text in files.items():
            path = tmp_path / (name.replace("__", "/") + ".py")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        env = clean_environment(WARMFORK_PYTHON=python)
        done = subprocess.run([warmctl, "audit", *args], env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == status, done
        return done
    return run


def test_names_the_import(audit):
    done = audit("app.py", status=1, metrics=SPAWNS, app="import json\nimport metrics\nimport decimal\nprint('not run')\n1 / 0\n")
    first = done.stdout.splitlines()[0]
    assert first.startswith("app.py: unsafe to fork: 1 unsafe") and "not run" not in done.stdout + done.stderr
    assert "import: import metrics (app.py:2)" in done.stdout and "'metrics'" in done.stdout


def test_json(audit):
    done = audit("--json", "-m", "pkg.app", status=1, metrics=SPAWNS, pkg__app="from metrics import threading\n")
    told = json.loads(done.stdout)
    assert told["safe"] is False and told["failed"] is True and told["errors"] == []
    (finding,) = [f for f in told["findings"] if f["code"] == "thread"]
    assert finding["introduced_by"].startswith("from metrics import threading (") and ":1)" in finding["introduced_by"]
    assert [s["introduced"] for s in told["imports"]][-1] == ["thread"]
    told = json.loads(audit("--json", "-c", "import json, metrics\nimport re", status=1).stdout)
    steps = [(s["statement"], s["file"], s["line"], s["introduced"]) for s in told["imports"]]
    assert steps == [("import json, metrics (<string>:1)", "<string>", 1, ["thread"]),
                     ("import re (<string>:2)", "<string>", 2, [])]


def test_a_package_is_its_main_module(audit, tmp_path):
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg/__main__.py").write_text("from . import helper\n")
    (tmp_path / "pkg/helper.py").write_text("import metrics\n")
    done = audit("-m", "pkg", status=1, metrics=SPAWNS)
    assert "import: from . import helper (" in done.stdout
    done = audit("pkg", status=1)  # a directory is run without being a package
    assert "ImportError" in done.stdout


@pytest.mark.parametrize("fail_on, status", [("unsafe", 1), ("never", 0), ("socket", 0), ("thread,gc", 1), ("info", 1)])
def test_fail_on(audit, fail_on, status):
    audit("--fail-on", fail_on, "app.py", status=status, app="import metrics\n", metrics=SPAWNS)
    audit(f"--fail-on={fail_on}", "-c", "import metrics", status=status)


def test_safe_program(audit):
    done = audit("app.py", status=0, app="from __future__ import annotations\nimport os, json\nimport sys as s\n"
                                         "from email import message\nif __name__ == '__main__':\n    import nothing\n")
    assert done.stdout.startswith("app.py: safe to fork") and done.stderr == ""


PREPARED = """
import os, sys
from os.path import dirname
ROOT = dirname(__file__)
LIB = os.path.join(ROOT, 'lib')
sys.path.insert(0, LIB)
os.environ['MODE'] = 'quick'
try:
    import not_there
except ImportError:
    not_there = None
if sys.version_info < (3,):
    import older
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import only_for_types
import in_lib
if os.environ.get('RUN'):
    run()
"""


def test_what_imports_need_is_run(audit):
    audit("app.py", status=0, app=PREPARED, lib__in_lib="import os\nassert os.environ['MODE'] == 'quick'\nprint('imported')\n")


def test_an_import_that_fails_is_told_and_the_next_is_looked_at(audit):
    done = audit("app.py", status=1, app="import missing_one\nimport exits\nimport metrics\n", exits="raise SystemExit(3)\n",
                 metrics=SPAWNS)
    assert "import missing_one (app.py:1): ModuleNotFoundError" in done.stdout
    assert "import exits (app.py:2): SystemExit: 3" in done.stdout and "import: import metrics (app.py:3)" in done.stdout


@pytest.mark.parametrize("how, told", [("os.kill(os.getpid(), 11)", "killed the process by signal 11"),
                                       ("os._exit(5)", "ended the process with status 5")])
def test_an_import_that_ends_the_process(audit, how, told):
    done = audit("--json", "app.py", status=1, app="import json\nimport deadly\n", deadly=f"import os\n{how}\n")
    assert json.loads(done.stdout)["errors"] == [f"import deadly (app.py:2): {told}"]


def test_output_of_imports_is_not_the_reports(audit):
    done = audit("--json", "-c", "import chatty", status=0, chatty="import os\nprint('hello')\nos.system('echo from a child')\n")
    json.loads(done.stdout)
    assert "from a child" in done.stderr


def test_nothing_is_left_running(audit, tmp_path):
    audit("-c", "import forks", status=0,
          forks=f"import subprocess\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(subprocess.Popen(['sleep', '100']).pid))\n")
    pid = int((tmp_path / "pid").read_text())
    path = f"/proc/{pid}/stat"
    assert not os.path.exists(path) or open(path).read().split(")")[1].split()[0] in "ZX"


@pytest.mark.parametrize("args", [[], ["--bad", "x.py"], ["-m"], ["--fail-on", "nonsense", "-c", "1"], ["--python"]])
def test_wrong_usage(audit, args):
    done = audit(*args, status=2)
    assert done.stderr.startswith("warmctl: ") and "--help" in done.stderr and done.stdout == ""


def test_program_that_does_not_exist(audit):
    assert "FileNotFoundError" in audit("nowhere.py", status=1).stdout
    assert "no module named nowhere" in audit("-m", "nowhere", status=1).stdout
    assert "SyntaxError" in audit("-c", "def", status=1).stdout


def test_another_interpreter(audit, python):
    done = audit("--json", "--python", python, "-c", "import sys", status=0)
    assert json.loads(done.stdout)["python"] == python
