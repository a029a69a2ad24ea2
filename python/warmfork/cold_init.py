# Runs a program in a named zygote's stead when there is none: `python OPTIONS cold_init.py INIT PROGRAM-ARGUMENTS`.
# The init section first, then the program, in one __main__, as the zygote would have it.
def _both():
    import io
    import os
    import sys

    main = sys.modules["__main__"].__dict__
    safe = getattr(sys.flags, "safe_path", sys.flags.isolated)

    def execute(path):
        with io.open_code(path) as file:
            code = compile(file.read(), path, "exec")
        main["__file__"] = path
        exec(code, main)

    def path0(path):
        if not safe:
            sys.path.insert(0, path)

    def init(path):
        sys.argv = [path]
        sys.path.insert(0, os.path.dirname(path))
        try:
            execute(path)
        finally:
            main.pop("__file__", None)
            sys.path.remove(os.path.dirname(path))

    def program(args):
        if args[:1] == ["-c"]:
            sys.argv = ["-c", *args[2:]]
            path0("")
            exec(compile(args[1], "<string>", "exec"), main)
        elif args[:1] == ["-m"]:
            import runpy

            sys.argv = ["-m", *args[2:]]
            path0(os.getcwd())
            runpy._run_module_as_main(args[1], True)
        elif args in ([], ["-"]) or args[0] == "-":
            sys.argv = args or [""]
            path0("")
            exec(compile(sys.stdin.buffer.read(), "<stdin>", "exec"), main)
        else:
            sys.argv = args
            path = os.path.abspath(args[0])
            path0(os.path.dirname(os.path.realpath(path)))
            execute(path)

    init_path, args = sys.argv[1], sys.argv[2:]
    for name in ("_both", "__file__", "__cached__"):
        main.pop(name, None)
    if not safe:
        del sys.path[0]
    init(init_path)
    program(args)


_both()
