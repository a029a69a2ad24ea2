"""The input that the programs work on: real files wherever there are some, laid out in a directory.

Each function returns `prepare(work, venv)`, which fills the directory `work` for a tool of the environment `venv`.
"""

import importlib.util
import json
import os
import shutil
from pathlib import Path

from venvs import ROOT

STDLIB = Path(os.__file__).parent
FIXTURES = Path(__file__).resolve().parent / "fixtures"


def both(*prepares):
    def prepare(work, venv):
        for one in prepares:
            one(work, venv)

    return prepare


def nothing(work, venv):
    pass


def files(texts):
    """Files, {path: text}."""
    def prepare(work, venv):
        for path, text in texts.items():
            target = work / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")

    return prepare


def stdlib(*names, into="."):
    """Files or packages of the standard library (of the interpreter that runs this)."""
    def prepare(work, venv):
        for name in names:
            target = work / into / Path(name).name
            target.parent.mkdir(parents=True, exist_ok=True)
            if (STDLIB / name).is_dir():
                shutil.copytree(STDLIB / name, target, ignore=shutil.ignore_patterns("__pycache__", "test*"))
            else:
                shutil.copyfile(STDLIB / name, target)

    return prepare


def fixture(name, into="."):
    """A directory of fixtures/."""
    def prepare(work, venv):
        shutil.copytree(FIXTURES / name, work / into, dirs_exist_ok=True)

    return prepare


def checkout(*paths):
    """Files or directories of this checkout."""
    def prepare(work, venv):
        for path in paths:
            target = work / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / path).is_dir():
                shutil.copytree(ROOT / path, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copyfile(ROOT / path, target)

    return prepare


BUNDLED = next((STDLIB / "ensurepip" / "_bundled").glob("pip-*.whl"))  # of pip, for ensurepip


def bundled_wheel(work, venv):
    shutil.copyfile(BUNDLED, work / BUNDLED.name)


def sklearn_data(*names):
    """Files of the data sets that scikit-learn ships (it is installed beside warmfork, for the demonstration)."""
    def prepare(work, venv):
        top = Path(importlib.util.find_spec("sklearn").origin).parent / "datasets"
        for name in names:
            shutil.copyfile(top / name, work / Path(name).name)

    return prepare


def notebook(name, *cells):
    """A notebook of code cells."""
    body = {
        "cells": [
            {"cell_type": "code", "execution_count": None, "id": f"cell-{number}", "metadata": {}, "outputs": [],
             "source": source}
            for number, source in enumerate(cells)
        ],
        "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return files({name: json.dumps(body)})


DESCRIPTIONS = [f"descr/{name}.rst" for name in ("breast_cancer", "diabetes", "iris", "wine_data")]
SPHINX = both(fixture("sphinx"), sklearn_data(*DESCRIPTIONS))
MKDOCS = both(fixture("mkdocs"), checkout("docs/design.md", "docs/protocol.md", "docs/benchmarks.md"))
NOTEBOOK = both(
    notebook("nb.ipynb", "import csv\nrows = list(csv.reader(open('iris.csv')))\nrows[0]",
             "print(len(rows), 'rows')\nmax(float(r[0]) for r in rows[1:])"),
    notebook("bad.ipynb", "1 + 1", "{}['missing']"),
    sklearn_data("data/iris.csv"),
)
