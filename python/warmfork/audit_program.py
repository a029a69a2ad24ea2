"""`warmctl audit`: PYTHON audit_program.py [OPTION]... SCRIPT | -m MODULE | -c CODE

Runs the imports of a program, one after the other, in a process that is thrown away, and audits after each. That
process is a child, so that an import that kills it, hangs at its end or leaves children behind does no harm here.
"""

from __future__ import annotations

import ast
import json
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn

USAGE = 2
TEMPORARY = ("gc", "unseen")  # not an import's doing, and told in any case


class Wanted(NamedTuple):
    """The command line."""

    mode: str  # "script", "-m" or "-c"
    program: str
    arguments: list[str]
    as_json: bool
    fail_on: frozenset[str]


class Source(NamedTuple):
    """The program's text, and how it is to be run."""

    text: str
    file: str
    package: str | None


def usage(text: str) -> NoReturn:
    print(f"warmctl: {text}; see warmctl --help", file=sys.stderr)
    raise SystemExit(USAGE)


def parse(argv: list[str]) -> Wanted:
    """Options end where the program begins: what follows it is the program's."""
    as_json, fail_on, rest = False, "unsafe", list(argv)
    while rest and rest[0].startswith("-") and rest[0] not in ("-m", "-c", "-", "--"):
        option, _, value = rest.pop(0).partition("=")
        if option == "--json":
            as_json = True
        elif option == "--fail-on" and (value or rest):
            fail_on = value or rest.pop(0)
        else:
            usage(f"audit: unknown option or missing value: {option}")
    if rest[:1] == ["--"]:
        rest.pop(0)
    if not rest or rest[0] == "-" or (rest[0] in ("-m", "-c") and len(rest) < 2):
        usage("audit what? SCRIPT, -m MODULE or -c CODE")
    mode = rest.pop(0) if rest[0] in ("-m", "-c") else "script"
    return Wanted(mode, rest[0], rest[1:], as_json, parse_fail_on(fail_on))


def parse_fail_on(text: str) -> frozenset[str]:
    from warmfork._report import CODES, SEVERITIES

    names = frozenset(text.split(",")) - {"", "never"}
    for name in sorted(names - {*CODES, *SEVERITIES}):
        usage(f"--fail-on {name}: neither a code nor one of {', '.join(SEVERITIES)}, never")
    return names


# What of a program is run


def is_import(node: ast.stmt) -> bool:
    return isinstance(node, (ast.Import, ast.ImportFrom))


def has_import(node: ast.stmt) -> bool:
    return any(isinstance(inner, (ast.Import, ast.ImportFrom)) for inner in ast.walk(node))


def names_in(node: ast.AST) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}


def is_optional_import(node: ast.stmt) -> bool:
    """`try: import a except ImportError: a = None`, `if sys.version_info < ...: import b`, `with suppress(...):`."""
    if not isinstance(node, (ast.Try, ast.If, ast.With)) or not has_import(node):
        return False
    if isinstance(node, ast.If) and names_in(node.test) & {"__name__", "TYPE_CHECKING"}:
        return False
    simple = (ast.Import, ast.ImportFrom, ast.Pass, ast.Assign, ast.AnnAssign, ast.Raise, ast.If, ast.Try, ast.With)
    nested = [inner for inner in ast.walk(node) if isinstance(inner, ast.stmt)]
    return all(isinstance(inner, simple) for inner in nested)


PREPARES = (
    "sys.path", "os.environ", "site.addsitedir", "warnings.", "monkey.patch_", "gevent.monkey.",
    "eventlet.monkey_patch", "matplotlib.use", "mpl.use", "multiprocessing.set_start_method", "django.setup",
)  # fmt: skip


def prepares(node: ast.stmt) -> bool:
    """What programs do for the sake of the imports that follow."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return ast.unparse(node.value.func).startswith(PREPARES)
    if isinstance(node, (ast.Assign, ast.AugAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return any(ast.unparse(target).startswith(PREPARES) for target in targets)
    return False


def statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """Imports at the top level, what prepares them, and the assignments that this needs."""
    chosen = {id(n) for n in tree.body if is_import(n) or is_optional_import(n) or prepares(n)}
    needed = set().union(*(names_in(n) for n in tree.body if id(n) in chosen and not is_import(n)))
    for node in reversed(tree.body):
        if isinstance(node, ast.Assign) and needed & {t.id for t in node.targets if isinstance(t, ast.Name)}:
            chosen.add(id(node))
            needed |= names_in(node.value)
    return (n for n in tree.body if id(n) in chosen)


# Running it


def find_source(wanted: Wanted) -> Source:
    """Sets sys.path[0] as python does, and reads the program. Imports the parent packages of a module."""
    import importlib.util

    if wanted.mode == "-c":
        sys.path.insert(0, "")
        return Source(wanted.program, "<string>", None)
    if wanted.mode == "script" and not os.path.isdir(wanted.program) and not wanted.program.endswith((".zip", ".pyz")):
        sys.path.insert(0, os.path.dirname(os.path.abspath(wanted.program)))
        import tokenize

        with tokenize.open(wanted.program) as file:
            return Source(file.read(), wanted.program, None)
    sys.path.insert(0, os.getcwd() if wanted.mode == "-m" else wanted.program)
    name = wanted.program if wanted.mode == "-m" else "__main__"
    sys.modules.pop("__main__", None)
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = importlib.util.find_spec(f"{name}.__main__")
    loader: Any = spec.loader if spec is not None else None
    if spec is None or loader is None or not hasattr(loader, "get_source"):
        raise ImportError(f"no module named {name}")
    text = loader.get_source(spec.name)
    return Source(text if text is not None else f"import {name}", spec.origin or name, spec.parent)


class Audited:
    """Says what came with which statement; runs in the process that is thrown away."""

    def __init__(self, tell: int) -> None:
        from warmfork import audit

        self.audit, self.tell = audit, tell
        self.first = self.report = audit()
        self.introduced: dict[Any, str] = {}
        self.steps: list[dict[str, Any]] = []

    def say(self, **what: Any) -> None:
        data = json.dumps(what, default=str).encode() + b"\n"
        while data:
            data = data[os.write(self.tell, data) :]

    def step(self, label: str, file: str, line: int, run: Any) -> bool:
        """Runs one part; false when it raised."""
        self.say(step=label)
        error = None
        try:
            run()
        except BaseException as problem:  # SystemExit as well: the next import can be looked at all the same
            error = f"{type(problem).__name__}: {problem}"
        report = self.audit()
        new = [f for f in report.since(self.report).findings if f.code not in TEMPORARY]
        for finding in new:
            self.introduced[finding.key] = label
        self.report = report
        step = {"statement": label, "file": file, "line": line, "error": error, "introduced": [f.code for f in new]}
        self.steps.append(step)
        return error is None

    def finish(self) -> None:
        from warmfork import Report

        before = {f.key for f in self.first.findings if f.code not in TEMPORARY}
        report = Report([f for f in self.report.findings if f.key not in before], self.report.seconds)
        for finding in report.findings:
            finding.introduced_by = self.introduced.get(finding.key)
        # Finding and reading the program are no imports; they may import, as -m does, or fail.
        imports = [step for step in self.steps if step["line"] or step["error"] or step["introduced"]]
        self.say(imports=imports, report=report.to_dict())


def run_imports(audited: Audited, wanted: Wanted) -> None:
    import types

    main = types.ModuleType("__main__")
    source = Source("", wanted.program, None)

    def read() -> None:
        nonlocal source
        source = find_source(wanted)

    label = wanted.program if wanted.mode == "script" else f"{wanted.mode} {wanted.program.splitlines()[0]}"
    if not audited.step(label, "<string>" if wanted.mode == "-c" else wanted.program, 0, read):
        return
    sys.argv = [source.file if wanted.mode != "-c" else "-c", *wanted.arguments]
    vars(main).update(__file__=source.file, __package__=source.package, __builtins__=__builtins__)
    sys.modules["__main__"] = main
    tree: ast.Module | None = None

    def compile_it() -> None:
        nonlocal tree
        tree = ast.parse(source.text, source.file)

    if not audited.step(label, source.file, 0, compile_it) or tree is None:
        return
    for node in statements(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            continue
        code = compile(ast.Module([node], []), source.file, "exec")
        text = ast.unparse(node).splitlines()[0]
        place = f"{source.file}:{node.lineno}"
        audited.step(f"{text} ({place})", source.file, node.lineno, lambda code=code: exec(code, vars(main)))


def child(tell: int, wanted: Wanted) -> NoReturn:
    """What the program prints goes to stderr: stdout is the report's."""
    status = 1
    try:
        os.setpgid(0, 0)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        os.dup2(2, 1)
        audited = Audited(tell)
        run_imports(audited, wanted)
        audited.finish()
        status = 0
    finally:
        os._exit(status)


def collect(read: int) -> tuple[str, dict[str, Any] | None]:
    """The last step, and the result when there is one. Ends when the result is there: threads may hold the pipe."""
    last, data = "", b""
    while True:
        part = os.read(read, 65536)
        data += part
        *lines, data = data.split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "report" in message:
                return last, message
            last = message["step"]
        if not part:
            return last, None


def run_in_child(wanted: Wanted) -> dict[str, Any]:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        child(write, wanted)
    os.close(write)
    try:
        last, result = collect(read)
        if result is None:
            return {"imports": [], "report": None, "error": f"{last}: {how_it_ended(pid)}"}
        return result
    finally:
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def how_it_ended(pid: int) -> str:
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return f"ended the process with status {code}" if code >= 0 else f"killed the process by signal {-code}"


# Telling


def to_report(result: dict[str, Any]) -> Any:
    """The findings as objects again."""
    from warmfork import Finding, Report

    findings = []
    for data in result["report"]["findings"]:
        introduced_by = data.pop("introduced_by", None)
        finding = Finding(**data)
        finding.introduced_by = introduced_by
        findings.append(finding)
    return Report(findings, result["report"]["seconds"])


def print_text(name: str, result: dict[str, Any], report: Any) -> None:
    for step in result["imports"]:
        if step["error"]:
            print(f"{name}: {step['statement']}: {step['error']}")
    if result.get("error"):
        print(f"{name}: {result['error']}")
    if report is not None:
        print(f"{name}: {report.format()}")


def main(argv: list[str]) -> int:
    wanted = parse(argv)
    name = wanted.program if wanted.mode == "script" else f"{wanted.mode} {wanted.program.splitlines()[0]}"
    result = run_in_child(wanted)
    report = to_report(result) if result["report"] is not None else None
    errors = [f"{s['statement']}: {s['error']}" for s in result["imports"] if s["error"]]
    errors += [result["error"]] if result.get("error") else []
    failed = bool(errors) or report is None or bool(report.fails(wanted.fail_on))
    if wanted.as_json:
        told = {
            "program": name,
            "python": sys.executable,
            "safe": report is not None and report.safe and not errors,
            "failed": failed,
            "errors": errors,
            "imports": result["imports"],
            "findings": report.to_dict()["findings"] if report is not None else [],
        }
        print(json.dumps(told, indent=2))
    else:
        print_text(name, result, report)
    sys.stdout.flush()
    return int(failed)


def bootstrap() -> None:
    """Loads the package that this file is part of; warmfork need not be installed in this interpreter."""
    import importlib.util

    folder = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != folder or entry == ""]
    spec = importlib.util.spec_from_file_location(
        "warmfork", os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
    )
    assert spec is not None and spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules["warmfork"] = package
    spec.loader.exec_module(package)


if __name__ == "__main__":
    bootstrap()
    sys.exit(main(sys.argv[1:]))
