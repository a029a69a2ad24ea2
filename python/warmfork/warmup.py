# What a zygote does in Python while it warms up. Executed by _zygote in a namespace of its own, dropped before serving.
# Imports nothing that a bare interpreter does not have: a program must not find it in sys.modules.
import os  # python -S does not load it; _zygote takes it out of sys.modules again then
import sys

_posix = sys.modules["posix"]
_asked = set()  # names of environment variables, as bytes; b"*" when all were looked at


class _Recorder(dict):
    """Stands in for os.environ's dict during warm-up and notes which variables are consulted."""

    def __getitem__(self, key):
        _asked.add(key)
        return dict.__getitem__(self, key)

    def __contains__(self, key):
        _asked.add(key)
        return dict.__contains__(self, key)

    def get(self, key, default=None):
        _asked.add(key)
        return dict.get(self, key, default)

    def __iter__(self):
        _asked.add(b"*")
        return dict.__iter__(self)

    def keys(self):
        _asked.add(b"*")
        return dict.keys(self)

    def items(self):
        _asked.add(b"*")
        return dict.items(self)

    def values(self):
        _asked.add(b"*")
        return dict.values(self)

    def copy(self):
        _asked.add(b"*")
        return dict(self)


def _put(data):
    os.environ._data = data
    os.environb._data = data
    _posix.environ = data


def record():
    """Begins to note what is asked of os.environ."""
    _put(_Recorder(os.environ._data))


def recorded(original):
    """Ends it: `original` is os.environ's dict again, with the changes made meanwhile. Returns the names asked for."""
    data = dict(dict.items(os.environ._data))
    original.clear()
    original.update(data)
    _put(original)
    return list(_asked)


def load(name):
    """Imports a module by its dotted name."""
    __import__(name)


def init(path):
    """Runs the init section in __main__, as python would run it as a script."""
    main = sys.modules["__main__"].__dict__
    with sys.modules["io"].open_code(path) as file:
        source = file.read()
    saved = sys.argv
    sys.argv = [path]
    sys.path.insert(0, os.path.dirname(path))
    main["__file__"] = path
    try:
        exec(compile(source, path, "exec"), main)
    finally:
        main.pop("__file__", None)
        sys.path.remove(os.path.dirname(path))
        sys.argv = saved


def directories():
    """Where what is loaded came from, and where imports look."""
    found = {}
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str):
            found[os.path.dirname(os.path.abspath(file))] = True
    for entry in sys.path:
        if entry:
            found[os.path.abspath(entry)] = True
    return [os.fsencode(path) for path in found]


def _strings(code, into):
    for const in code.co_consts:
        if isinstance(const, str) and const.isidentifier():
            into.add(const.encode())
        elif isinstance(const, (tuple, frozenset)):
            into.update(c.encode() for c in const if isinstance(c, str) and c.isidentifier())
        elif hasattr(const, "co_consts"):
            _strings(const, into)


def _pth_lines():
    for entry in sys.path:
        try:
            names = [n for n in os.listdir(entry) if n.endswith(".pth")]
        except OSError:
            continue
        for name in names:
            with open(os.path.join(entry, name), "rb") as file:
                for line in file.read().splitlines():
                    if line.startswith((b"import ", b"import\t")):
                        yield line


def constants():
    """Names that start-up hooks may have looked up in os.environ before anything could be recorded.

    sitecustomize, usercustomize and `import` lines of .pth files run before any program does. Every string in their code
    that could name a variable counts as consulted: too many rather than too few.
    """
    found = set()
    standard = os.path.dirname(os.__file__)
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        own = isinstance(file, str) and os.path.dirname(file).startswith(standard)
        if not isinstance(file, str) or name == "__main__" or (own and "-packages" not in file):
            continue
        code = module.__spec__.loader.get_code(name) if module.__spec__ else None
        if code is not None:
            _strings(code, found)
    for line in _pth_lines():
        try:
            _strings(compile(line, ".pth", "exec"), found)
        except SyntaxError:
            pass  # python reported it when it ran the line, and went on
    return list(found)
