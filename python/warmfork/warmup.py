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


_touched = set()  # what an import asked about the program that there is not yet


class _Argv(list):
    """Stands in for sys.argv and sys.orig_argv: an import that looks at them cannot be made ahead."""

    def _note(name):
        method = getattr(list, name)

        def noted(self, *args):
            _touched.add("the command line")
            return method(self, *args)

        return noted

    for _name in ("__getitem__", "__iter__", "__len__", "__contains__", "__eq__", "__repr__", "copy", "index", "pop"):
        locals()[_name] = _note(_name)
    del _name, _note
    __hash__ = None


_HELD = [sys.getrefcount(item) for item in [_Argv()]][0]  # of what nothing but a list refers to


class _Main(type(sys)):
    """Stands in for __main__."""

    def __getattribute__(self, name):
        _touched.add(f"__main__.{name}")
        return super().__getattribute__(name)


def _kept_pid(had):
    """Globals of newly imported modules that hold this process's id: a program would find another's there.

    Any number may equal it by chance, so _zygote asks a second process before it believes this.
    """
    pid = os.getpid()
    for name in [n for n in sys.modules if n not in had]:
        for key, value in list(getattr(sys.modules[name], "__dict__", {}).items()):
            if type(value) is int and value == pid:
                yield f"its process id ({name}.{key})"


def load(name):
    """Imports a module by its dotted name. Returns what it looked at and must not have, or None."""
    main, argv, orig_argv, had = sys.modules["__main__"], sys.argv, sys.orig_argv, set(sys.modules)
    watched, stand_in = [_Argv(argv), _Argv(orig_argv)], _Main("__main__")
    sys.argv, sys.orig_argv = watched
    sys.modules["__main__"] = stand_in
    _touched.clear()
    try:
        __import__(name)
    finally:
        if sys.argv is not watched[0] or sys.orig_argv is not watched[1]:
            _touched.add("the command line")
        sys.argv, sys.orig_argv, sys.modules["__main__"] = argv, orig_argv, main
        if sys.modules.get("__mp_main__") is stand_in:  # multiprocessing's second name for it
            sys.modules["__mp_main__"] = main
    # What still refers to one of them, a default argument say, would not find a program's arguments there.
    if any(sys.getrefcount(item) > _HELD for item in watched):
        _touched.add("the command line")
    _touched.update(_kept_pid(had))
    return ", ".join(sorted(_touched)).encode() or None


_ROUNDS = 4096  # of 624 numbers each, which an import may have drawn


def _leads_to(state, reference, wanted, advance):
    """Whether the generator `reference` comes to hold the words `wanted` after some numbers."""
    for _ in range(_ROUNDS):
        if state(reference) == wanted:
            return True
        advance(reference)
    return False


def _by_the_system(generator, keys):
    """Whether a random.Random has the state of one that was seeded with one of these keys."""
    base = sys.modules["_random"].Random

    def words(r):
        return base.getstate(r)[:-1]

    def advance(r):
        r.getrandbits(32 * 624)

    wanted, starts = words(generator), (base(int.from_bytes(key, "little")) for key in keys)
    return not keys or any(_leads_to(words, start, wanted, advance) for start in starts)


def _twister_by_the_system(generator, entropies):
    """The same for numpy's Mersenne Twister, seeded when it was made or by seed()."""
    sequence = sys.modules["numpy.random"].SeedSequence

    def words(g):
        return g.state["state"]["key"].tobytes()

    wanted = words(generator)
    starts = (type(generator)(sequence(e)) for e in entropies)
    return not entropies or any(_leads_to(words, start, wanted, lambda g: g.random_raw(624)) for start in starts)


def _bits_by_the_system(generator, entropies):
    if type(generator).__name__ == "MT19937":
        return _twister_by_the_system(generator, entropies)
    return getattr(getattr(generator, "seed_seq", None), "entropy", None) in entropies


def generators(seeds, objects):
    """Which random number generators the system seeded, so that each program must have others.

    A list of random.Random's, one of numpy's bit generators, whether numpy.random's own is among them, and the state of
    random's own if it is not. `seeds`: all that the system was asked for, none if that is not known; `objects`: all
    there are. What was seeded with anything else, or given a state, keeps it.
    """
    random, mtrand = sys.modules.get("random"), sys.modules.get("numpy.random.mtrand")
    if not seeds or not (random or mtrand):
        return [], [], True, None
    keys = [s for s in seeds if len(s) == 2496]  # of random.seed()
    entropies = [int.from_bytes(s, "big") for s in seeds if len(s) == 16]  # of numpy.random.SeedSequence()
    plain, bits, kept = [], [], None
    if random:
        plain = [o for o in objects if issubclass(type(o), random.Random)]
        plain = [o for o in plain if not isinstance(o, random.SystemRandom) and _by_the_system(o, keys)]
        if not any(o is random._inst for o in plain):
            kept = random._inst.getstate()
    own = mtrand and mtrand._rand._bit_generator
    if mtrand:
        kind = sys.modules["numpy.random.bit_generator"].BitGenerator
        bits = [o for o in objects if issubclass(type(o), kind) and _bits_by_the_system(o, entropies)]
    others = [o for o in plain if o is not random._inst]
    return others, [o for o in bits if o is not own], any(o is own for o in bits), kept


_missed = set()  # files that would have been found by what the init section imports, had they been there


def _finder(directory):
    """A finder for the init section's directory, where programs are edited all day: notes the names asked for.

    Its listing of the directory is no input, as any other listing is: of another name there, nothing depends.
    """
    external = sys.modules["_frozen_importlib_external"]
    loaders = external._get_supported_file_loaders()

    class Noting(external.FileFinder):
        def note(self, name):
            path = os.path.join(directory, name)
            _missed.add(path)
            _missed.update(path + suffix for _, suffixes in loaders for suffix in suffixes)

        def find_spec(self, fullname, target=None):
            self.note(fullname.rpartition(".")[2])
            return super().find_spec(fullname, target)

        def _fill_cache(self):
            observe(False)  # noqa: F821 (_zygote puts it here)
            try:
                super()._fill_cache()
            finally:
                observe(True)  # noqa: F821

    return Noting(directory, *loaders)


def init(path):
    """Runs the init section in __main__, as python would run it as a script."""
    main = sys.modules["__main__"].__dict__
    directory, cache = os.path.dirname(path), sys.path_importer_cache
    finder = _finder(directory) if directory not in cache and os.path.isdir(directory) else None
    if finder:
        cache[directory] = finder
        for name in {name.partition(".")[0] for name in sys.modules}:
            finder.note(name)  # not looked for there, for it is loaded: preloaded, it may be
    with sys.modules["io"].open_code(path) as file:
        source = file.read()
    saved = sys.argv
    sys.argv = [path]
    sys.path.insert(0, directory)
    main["__file__"] = path
    try:
        exec(compile(source, path, "exec"), main)
    finally:
        main.pop("__file__", None)
        sys.path.remove(directory)
        sys.argv = saved
        if finder and cache.get(directory) is finder:
            del cache[directory]


def _file_of(module):
    file = getattr(module, "__file__", None)
    return os.path.abspath(file) if isinstance(file, str) else None


def files():
    """The files of all modules, and those that would be found instead."""
    found = {f for f in map(_file_of, list(sys.modules.values())) if f} | _missed
    return [os.fsencode(f) for f in found]


def directories():
    """Where imports looked or would look: of what is loaded, of sys.path, and the user's site-packages to be."""
    found = {}
    for module in list(sys.modules.values()):
        file = _file_of(module)
        if file:
            found[os.path.dirname(file)] = True
    for entry in sys.path:
        if entry:
            found[os.path.abspath(entry)] = True
    site = sys.modules.get("site")
    if getattr(site, "ENABLE_USER_SITE", None) is not False and getattr(site, "USER_SITE", None):
        found[site.USER_SITE] = True
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

    sitecustomize, usercustomize and `import` lines of .pth files run before any program does. Every string in their
    code that could name a variable counts as consulted: too many rather than too few.
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
