"""The real programs: which tool, on what input, with which modules preloaded, and how it ends."""

import dataclasses
from collections.abc import Callable

import inputs
import venvs
from inputs import both, fixture, sklearn_data, stdlib


DISTRIBUTIONS = {  # where the command's name is another
    "ansible-playbook": "ansible-core", "aws": "awscli", "jinja2": "jinja2-cli", "pygmentize": "pygments",
    "sphinx-build": "sphinx", "sqlformat": "sqlparse",
}


@dataclasses.dataclass(frozen=True)
class Case:
    tool: str
    what: str
    venv: str
    args: tuple[str, ...]  # behind `python3`. {bin}: the directory of the console scripts
    # {aside}: a directory that is not compared, for what has the time in it and cannot do without (sphinx's pickle)
    prepare: Callable = inputs.nothing
    status: int = 0
    preload: str = ""
    env: dict = dataclasses.field(default_factory=dict)
    stdin: str = ""  # a file of the input
    main: bool = False  # the one that is timed
    settled: bool = False  # what the first run of all leaves in the home is there for each: caches that imports make

    @property
    def name(self):
        return f"{self.tool}: {self.what}"

    @property
    def version(self):
        """Of the tool. pip is the one that the environment was made with."""
        found = venvs.pinned(self.venv, DISTRIBUTIONS.get(self.tool, self.tool))
        return found or inputs.BUNDLED.name.split("-")[1]

    @property
    def command(self):
        return " ".join(arg.replace("{bin}/", "$(which ") + (")" if "{bin}" in arg else "") for arg in self.args)


def tool(name, venv, preload, *cases):
    """The cases of one tool: (what, command line, status, prepare, {more}); the first is the one that is timed."""
    found = []
    for number, (what, line, status, prepare, *more) in enumerate(cases):
        args = tuple(arg.replace("{wheel}", inputs.BUNDLED.name) for arg in line.split())
        found.append(Case(name, what, venv, args, prepare, status, preload, main=not number, **(more[0] if more else {})))
    return found


MODULES = stdlib("textwrap.py", "shlex.py", "json", into="lib")
PACKAGE = fixture("package")
BROKEN = both(MODULES, inputs.files({"lib/broken.py": "def f(:\n    return 1\n"}))
PIP = {"env": {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}}
REPRODUCIBLE = {"env": {"SOURCE_DATE_EPOCH": "1600000000"}}
AWS = {"AWS_DEFAULT_REGION": "eu-west-1", "AWS_EC2_METADATA_DISABLED": "true", "AWS_PAGER": ""}
SPHINX = {"env": {**REPRODUCIBLE["env"], "PYTHONHASHSEED": "0"}}  # it writes sets

FORMATTERS = [
    *tool(
        "black", "dev", "black",
        ("a module", "-m black --check --no-cache lib/json/scanner.py", 1, MODULES),
        ("in place", "{bin}/black -q --no-cache lib/json", 0, MODULES),
        ("a syntax error", "-m black --no-cache lib/broken.py", 123, BROKEN),
        ("from stdin", "-m black -q -", 0, MODULES, {"stdin": "lib/textwrap.py"}),
        ("a wrong option", "{bin}/black --no-such-option", 2, MODULES),
    ),
    *tool(
        "isort", "dev", "isort.main",
        ("a package", "-m isort --check lib/json", 1, MODULES),
        ("in place", "{bin}/isort lib/json", 0, MODULES),
    ),
    *tool(
        "yapf", "dev", "yapf",
        ("differences", "-m yapf --diff lib/json/scanner.py", 1, MODULES, {"settled": True}),
        ("a syntax error", "{bin}/yapf lib/broken.py", 1, BROKEN, {"settled": True}),
    ),
    *tool(
        "autopep8", "dev", "autopep8",
        ("differences", "-m autopep8 --diff --exit-code lib/json/scanner.py", 2, MODULES),
        ("in place", "{bin}/autopep8 --in-place -r lib/json", 0, MODULES),
    ),
    *tool(
        "pyupgrade", "dev", "pyupgrade._main",
        ("in place", "{bin}/pyupgrade --py310-plus lib/textwrap.py", 1, MODULES),
    ),
]

LINTERS = [
    *tool(
        "flake8", "dev", "flake8.main.cli,flake8.plugins.pyflakes,pycodestyle,mccabe",
        ("findings", "-m flake8 lib/shlex.py", 1, MODULES),
        ("findings of several processes", "{bin}/flake8 --jobs 2 lib/json lib/textwrap.py lib/shlex.py", 1, MODULES),
        ("a syntax error", "-m flake8 lib/broken.py", 1, BROKEN),
    ),
    *tool(
        "pylint", "dev", "pylint.lint,pylint.checkers,pylint.reporters.text,isort",
        ("findings", "-m pylint lib/json/scanner.py", 24, MODULES),
        ("two processes", "{bin}/pylint --jobs 2 lib/textwrap.py lib/shlex.py", 28, MODULES),
    ),
    *tool(
        "mypy", "dev", "mypy.main,mypy.build",
        ("findings", "-m mypy --cache-dir=/dev/null --strict lib/shlex.py", 1, MODULES),
        ("no findings", "{bin}/mypy --cache-dir=/dev/null src/sundial", 0, PACKAGE),
        ("a wrong option", "-m mypy --no-such-option", 2, MODULES),
    ),
    *tool(
        "bandit", "dev", "stevedore.extension,yaml,rich.console,rich.progress,importlib.metadata,argparse,csv",
        ("findings", "-m bandit -q -f csv -r lib/json lib/shlex.py", 1, MODULES, {"settled": True}),
    ),
    *tool(
        "pydocstyle", "dev", "pydocstyle.cli",
        ("findings", "{bin}/pydocstyle lib/textwrap.py lib/shlex.py", 1, MODULES),
    ),
    *tool(
        "vulture", "dev", "vulture",
        ("findings", "-m vulture lib/textwrap.py lib/shlex.py lib/json", 3, MODULES),
    ),
    *tool(
        "radon", "dev", "radon.complexity,radon.metrics,radon.raw,radon.visitors,argparse,configparser",
        ("complexity", "-m radon cc -s -a lib/textwrap.py lib/shlex.py lib/json", 0, MODULES),
    ),
    *tool(
        "codespell", "dev", "codespell_lib,tomllib",
        ("findings", "-m codespell_lib lib/textwrap.py lib/shlex.py README.rst", 0, both(MODULES, PACKAGE)),
    ),
    *tool(
        "yamllint", "dev", "yamllint.cli",
        ("findings", "-m yamllint -f parsable --strict .", 2, both(fixture("playbook"), fixture("mkdocs"))),
    ),
    *tool(
        "sqlfluff", "dev", "sqlfluff.cli.commands,sqlfluff.core.plugin.host",
        ("findings", "-m sqlfluff lint --dialect ansi report.sql", 1, fixture("sql")),
        ("fixed", "{bin}/sqlfluff fix --dialect ansi report.sql", 1, fixture("sql")),
        ("what cannot be parsed", "-m sqlfluff lint --dialect ansi broken.sql", 1, fixture("sql")),
    ),
]

BUILDERS = [
    *tool(
        "pip", "dev", "pip._internal.cli.main,pip._internal.commands.install,pip._internal.commands.list",
        ("list", "-m pip list", 0, inputs.nothing, PIP),
        ("install", "-m pip install --no-index --no-deps --no-compile --target out {wheel}", 0, inputs.bundled_wheel, PIP),
        ("install, dry", "-m pip install --dry-run --no-index .", 1, PACKAGE, PIP),
        ("download", "{bin}/pip download --no-index --no-deps --dest out {wheel}", 0, inputs.bundled_wheel, PIP),
        ("check", "-m pip check", 0, inputs.nothing, PIP),
        ("show what there is not", "-m pip show no-such-package", 1, inputs.nothing, PIP),
    ),
    *tool(
        "build", "dev", "build.__main__",
        ("a wheel", "{bin}/pyproject-build --no-isolation --wheel", 0, PACKAGE, REPRODUCIBLE),
        ("no project", "{bin}/pyproject-build --no-isolation", 1, MODULES),
    ),
    *tool(
        "flit", "dev", "flit",
        ("a wheel", "-m flit build --format wheel", 0, PACKAGE, REPRODUCIBLE),
    ),
    *tool(
        "virtualenv", "dev", "virtualenv",
        ("an environment", "-m virtualenv -qq --no-download --no-periodic-update out", 0, inputs.nothing,
         {"env": {"PYTHONHASHSEED": "0"}}),
    ),
    *tool(
        "twine", "dev", "twine.cli,twine.commands.check",
        ("check", "-m twine check --strict {wheel}", 1, inputs.bundled_wheel),
    ),
    *tool(
        "pytest", "dev", "pytest",
        ("tests that pass", "-m pytest -qq tests/test_sundial.py", 0, PACKAGE),
        ("tests that fail", "{bin}/pytest -qq -rA", 1, PACKAGE),
        ("no such test", "-m pytest -qq tests/test_none.py", 4, PACKAGE),
    ),
    *tool(
        "coverage", "dev", "sqlite3,xml.dom.minidom,tomllib,argparse,optparse,html,inspect",
        ("run", "-m coverage run lib/textwrap.py", 0, MODULES),
        ("a script that fails", "{bin}/coverage run lib/broken.py", 1, BROKEN),
        ("no data", "-m coverage report", 1, MODULES),
    ),
]

WRITERS = [
    *tool(
        "pygmentize", "docs", "argparse,pygments.lexers.python,pygments.filters,pygments.formatters.html,pygments.formatters.terminal256",
        ("a module as HTML", "-m pygments -f html -O full,linenos=1 -o out.html lib/textwrap.py", 0, MODULES),
        ("on a terminal's colours", "{bin}/pygmentize -f terminal256 lib/shlex.py", 0, MODULES),
        ("no such lexer", "{bin}/pygmentize -l no-such-lexer lib/shlex.py", 1, MODULES),
    ),
    *tool(
        "docutils", "docs", "docutils.core,docutils.parsers.rst,docutils.writers.html5_polyglot",
        ("rst2html5", "{bin}/rst2html5 breast_cancer.rst out.html", 0, sklearn_data("descr/breast_cancer.rst")),
        ("to LaTeX", "-m docutils --writer=latex iris.rst", 0, sklearn_data("descr/iris.rst")),
    ),
    *tool(
        "sphinx-build", "docs", "sphinx.cmd.build,sphinx.application,sphinx.builders.html,sphinx.ext.autodoc,"
        "sphinx.ext.viewcode,sphinx.ext.doctest",
        ("HTML", "-m sphinx -d {aside} -b html . out", 0, inputs.SPHINX, SPHINX),
        ("warnings are errors", "{bin}/sphinx-build -W -d {aside} -b text . out", 1, inputs.SPHINX, SPHINX),
        ("two processes", "-m sphinx -Q -j 2 -d {aside} -b html . out", 0, inputs.SPHINX, SPHINX),
    ),
    *tool(
        "mkdocs", "docs", "mkdocs.__main__,mkdocs.commands.build,mkdocs.theme,markdown.extensions.toc",
        ("our own documentation", "{bin}/mkdocs -q build", 0, inputs.MKDOCS, REPRODUCIBLE),
        ("warnings are errors", "{bin}/mkdocs build --strict", 1, inputs.MKDOCS, REPRODUCIBLE),
    ),
    *tool(
        "nbconvert", "docs", "nbconvert.nbconvertapp,nbconvert.preprocessors,jupyter_client.manager,nbclient.client,zmq",
        ("execute a notebook", "{bin}/jupyter-nbconvert --execute --to markdown nb.ipynb", 0, inputs.NOTEBOOK),
        ("a notebook that fails", "-m nbconvert --execute --to html bad.ipynb", 1, inputs.NOTEBOOK),
    ),
    *tool(
        "ipython", "docs", "IPython,prompt_toolkit.shortcuts,jedi,pygments.lexers,stack_data,asyncio,sqlite3",
        ("a script", "{bin}/ipython --colors=NoColor --HistoryManager.enabled=False lib/textwrap.py", 0, MODULES),
    ),
]

OPERATORS = [
    *tool(
        "ansible-playbook", "ops", "jinja2.nativetypes,yaml,cryptography.hazmat.primitives,argparse,multiprocessing.queues,getpass,smtplib",
        ("a play that fails at its end", "{bin}/ansible-playbook -i hosts site.yml", 2, fixture("playbook")),
        ("a dry run", "-m ansible playbook --check -i hosts site.yml", 2, fixture("playbook")),
    ),
    *tool(
        "django", "ops", "django.core.management,django.contrib.admin,django.contrib.auth,django.db.models",
        ("manage.py check", "manage.py check", 0, fixture("django")),
        ("migrate", "manage.py migrate", 0, fixture("django")),
        ("makemigrations", "manage.py makemigrations --no-header", 0, fixture("django")),
        ("collectstatic", "manage.py collectstatic --no-input", 0, fixture("django")),
        ("an unknown command", "manage.py nonsense", 1, fixture("django")),
        ("django-admin", "{bin}/django-admin startapp", 2, inputs.nothing),
    ),
    *tool(
        "httpie", "ops", "requests,rich.console,pygments.lexers,pygments.formatters.terminal256,requests_toolbelt,argparse,multidict",
        ("a request, offline", "-m httpie --offline --ignore-stdin POST example.org name=brass n:=3", 0, inputs.nothing),
        ("a wrong option", "{bin}/http --no-such-option example.org", 1, inputs.nothing),
    ),
    *tool(
        "csvkit", "ops", "csvkit.utilities.csvstat,csvkit.utilities.csvsql,csvkit.utilities.csvcut",
        ("csvstat", "{bin}/csvstat linnerud_exercise.csv", 0, sklearn_data("data/linnerud_exercise.csv")),
        ("csvsql", "{bin}/csvsql -i postgresql iris.csv", 0, sklearn_data("data/iris.csv")),
        ("csvcut, no such column", "{bin}/csvcut -c none iris.csv", 1, sklearn_data("data/iris.csv")),
    ),
    *tool(
        "cookiecutter", "ops", "cookiecutter.cli",
        ("a project", "-m cookiecutter --no-input . -o out", 0, fixture("cookiecutter")),
        ("no such template", "{bin}/cookiecutter --no-input ./none", 1, inputs.nothing),
    ),
    *tool(
        "scrapy", "ops", "argparse,parsel,w3lib.html,lxml.html,itemadapter,itemloaders,zope.interface,cryptography.x509",
        ("a spider", "-m scrapy runspider --nolog -o out.json spider.py", 0, fixture("scrapy")),
        ("no such command", "{bin}/scrapy nonsense", 2, inputs.nothing),
    ),
    *tool(
        "aws", "ops", "awscli.clidriver,awscli.customizations",
        ("its configuration", "{bin}/aws configure list", 0, inputs.nothing, {"env": AWS}),
        ("its version", "{bin}/aws --version", 0, inputs.nothing, {"env": AWS}),
        ("no such service", "{bin}/aws nonsense", 2, inputs.nothing, {"env": AWS}),
    ),
    *tool(
        "jinja2", "ops", "jinja2cli.cli",
        ("a template", "{bin}/jinja2 report.j2 data.json", 0, fixture("jinja")),
    ),
    *tool(
        "sqlformat", "ops", "sqlparse.cli",
        ("a query", "-m sqlparse --reindent --keywords upper report.sql", 0, fixture("sql")),
    ),
]

PLOT = both(fixture("scripts"), sklearn_data("data/iris.csv"))

MORE = [
    *tool(
        "matplotlib", "more", "pandas,matplotlib.pyplot,matplotlib.backends.backend_agg",
        ("a diagram of a table, by pandas", "plot.py iris.csv", 0, PLOT, {"settled": True}),
        ("no such table", "plot.py none.csv", 1, PLOT, {"settled": True}),
    ),
    *tool(
        "sympy", "more", "sympy",
        ("three integrals", "integrate.py", 0, fixture("scripts")),
    ),
    *tool(
        "fastapi", "more", "fastapi",
        ("a service describes itself", "app.py", 0, fixture("service")),
    ),
    *tool(
        "gunicorn", "more", "gunicorn.app.wsgiapp,fastapi",
        ("check of a configuration", "{bin}/gunicorn --check-config app:app", 0, fixture("service")),
    ),
    *tool(
        "celery", "more", "celery.bin.celery",
        ("its version", "{bin}/celery --version", 0, inputs.nothing),
        ("no such application", "{bin}/celery -A none report", 2, inputs.nothing),
    ),
    *tool(
        "pre-commit", "more", "pre_commit.main",
        ("a configuration", "{bin}/pre-commit validate-config", 0, fixture("checks")),
        ("a wrong configuration", "-m pre_commit validate-config broken.yaml", 1, fixture("checks")),
    ),
    *tool(
        "tox", "more", "tox.run",
        ("its environments", "-m tox list", 0, fixture("checks")),
    ),
    *tool(
        "pytest-xdist", "more", "pytest",
        ("two processes", "-m pytest -qq -n 2 -p no:cacheprovider tests/test_sundial.py", 0, PACKAGE),
    ),
    *tool(
        "yt-dlp", "more", "yt_dlp",
        ("what it knows", "{bin}/yt-dlp --list-extractors", 0, inputs.nothing),
        ("a wrong option", "-m yt_dlp --no-such-option", 2, inputs.nothing),
    ),
]

CASES = FORMATTERS + LINTERS + BUILDERS + WRITERS + OPERATORS + MORE
