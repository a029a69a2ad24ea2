"""The hook for gunicorn, the handler for celery and the plugin for pytest, with the real gunicorn, celery and pytest."""

import os
import select
import signal
import subprocess
import textwrap

import pytest
from audit_harness import clean_environment, find_package

pytestmark = pytest.mark.timeout(200, func_only=True)  # the venv is made by whoever comes first

SPAWNS = "import threading\nthreading.Thread(target=threading.Event().wait, name='metrics', daemon=True).start()\n"
APP = "def app(environ, start):\n    start('200 OK', [])\n    return [b'hello']\n"


@pytest.fixture
def folder(tmp_path):
    """A working directory where `import warmfork` finds the package under test."""
    (tmp_path / "warmfork").symlink_to(find_package())
    (tmp_path / "metrics.py").write_text(SPAWNS)
    return tmp_path


def write(folder, **files):
    for name, text in files.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(text))


class Server:
    """A process whose output is read until a line tells what happened; killed with all its children."""

    def __init__(self, argv, folder):
        self.process = subprocess.Popen(
            argv, cwd=folder, env=clean_environment(PYTHONPATH=str(folder)), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self.output = b""

    def until(self, *words, seconds=100):
        while not any(word.encode() in self.output for word in words):
            ready, _, _ = select.select([self.process.stdout], [], [], seconds)
            part = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            assert part, f"none of {words} in:\n{self.output.decode()}"
            self.output += part
        return self.output.decode()

    def end(self):
        """Waits for the end that the program came to by itself; its status."""
        self.output += self.process.stdout.read()
        return self.process.wait(60)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.process.stdout.close()


def gunicorn(python, folder, conf, app):
    write(folder, gunicorn_conf=conf + "\npreload_app = True\nworkers = 1\nbind = '127.0.0.1:0'\n", wsgi=app)
    return Server([python, "-m", "gunicorn", "-c", "gunicorn_conf.py", "wsgi:app"], folder)


def test_gunicorn_logs(libraries, folder):
    with gunicorn(libraries, folder, "from warmfork.audit_gunicorn import when_ready", "import metrics\n" + APP) as server:
        output = server.until("Booting worker")
    assert "[ERROR] fork audit: thread: daemon thread 'metrics'" in output
    assert "[INFO] fork audit: unsafe to fork: 1 unsafe" in output


def test_gunicorn_refuses(libraries, folder):
    conf = "from warmfork import audit_gunicorn\nwhen_ready = audit_gunicorn.hook('raise')"
    with gunicorn(libraries, folder, conf, "import metrics\n" + APP) as server:
        assert server.end() == 1
    output = server.output.decode()
    assert "unsafe to fork: thread: daemon thread 'metrics'" in output and "Booting worker" not in output


def test_gunicorn_that_is_safe(libraries, folder):
    """Its own master, with a Flask app: nothing is unsafe, and nothing is called a warning without need."""
    conf = "from warmfork import audit_gunicorn\nwhen_ready = audit_gunicorn.hook('raise')"
    app = "import flask\napp = flask.Flask('app')\n@app.route('/')\ndef index(): return 'hello'\n"
    with gunicorn(libraries, folder, conf, app) as server:
        output = server.until("Booting worker")
    assert "fork audit: safe to fork" in output and "fork audit: thread" not in output


def test_gunicorn_policy(libraries, folder):
    conf = "from warmfork import audit_gunicorn\nwhen_ready = audit_gunicorn.hook('raise', policy={'thread': 'info'})"
    with gunicorn(libraries, folder, conf, "import metrics\n" + APP) as server:
        assert "fork audit: safe to fork" in server.until("Booting worker")


def celery(python, folder, install, more=""):
    write(folder, tasks=f"""
        import celery, logging
        {more}
        import warmfork.audit_celery
        app = celery.Celery("tasks", broker="memory://")
        warmfork.audit_celery.install({install})
        """)  # fmt: skip
    argv = [python, "-m", "celery", "-A", "tasks", "worker", "-P", "prefork", "-c", "1", "-l", "INFO", "--without-mingle"]
    return Server(argv, folder)


def test_celery_logs(libraries, folder):
    with celery(libraries, folder, "", "import metrics") as worker:
        output = worker.until("ready.")
    assert "fork audit: thread: daemon thread 'metrics'" in output and "fork audit: unsafe to fork" in output
    assert output.count("fork audit: unsafe") == 1


def test_celery_refuses(libraries, folder):
    with celery(libraries, folder, "'raise'", "import metrics") as worker:
        assert worker.end() == 1
    output = worker.output.decode()
    assert "unsafe to fork: thread: daemon thread 'metrics'" in output and "ready." not in output


def test_celery_that_is_safe(libraries, folder):
    with celery(libraries, folder, "'raise'") as worker:
        assert "fork audit: safe to fork" in worker.until("ready.")


TESTS = """
    import pytest, socket, threading

    def start(name):
        stop = threading.Event()
        thread = threading.Thread(target=stop.wait, name=name, daemon=True); thread.start()
        return stop, thread

    @pytest.fixture
    def own():
        stop, thread = start("own"); yield; stop.set(); thread.join()

    @pytest.fixture(scope="session")
    def shared():
        stop, thread = start("shared"); yield; stop.set(); thread.join()

    def test_clean(): pass
    def test_leaves_a_thread(): start("left behind")
    def test_after_it(): pass
    def test_with_fixture(own): pass
    def test_with_shared(shared): pass
    def test_after_shared(shared): pass
    def test_leaves_one_before_a_shared_fixture(request): start("early"); request.getfixturevalue("more")
    @pytest.fixture(scope="module")
    def more(): stop, thread = start("more"); yield; stop.set(); thread.join()
    @pytest.mark.fork_unsafe
    def test_knows(): start("known")
    def test_fails_anyway(): start("and fails"); assert False
    def test_last(): pass
"""


def pytest_run(python, folder, *args):
    write(folder, test_it=TESTS)
    argv = [python, "-m", "pytest", "-p", "warmfork.audit_pytest", "-p", "no:cacheprovider", "-ra", *args, "test_it.py"]
    return subprocess.run(argv, cwd=folder, env=clean_environment(PYTHONPATH=str(folder)), capture_output=True, text=True)


def test_pytest_plugin(libraries, folder):
    done = pytest_run(libraries, folder, "--fork-audit")
    assert done.returncode == 1, done.stdout
    left = {line.split(" ")[1] for line in done.stdout.splitlines() if line.startswith("ERROR test_it.py")}
    assert left == {f"test_it.py::{name}" for name in (
        "test_leaves_a_thread", "test_leaves_one_before_a_shared_fixture", "test_fails_anyway")}, done.stdout  # fmt: skip
    assert "1 failed, 9 passed, 3 errors" in done.stdout
    assert "leaves behind what is unsafe to fork" in done.stdout and "'left behind'" in done.stdout


def test_pytest_without_the_option(libraries, folder):
    assert "1 failed, 9 passed in" in pytest_run(libraries, folder).stdout


def test_pytest_that_is_asked_for_codes(libraries, folder):
    assert "errors" not in pytest_run(libraries, folder, "--fork-audit-on=socket,database").stdout
    done = pytest_run(libraries, folder, "--fork-audit-on=nonsense")
    assert done.returncode == 4 and "neither codes nor one of" in done.stderr
