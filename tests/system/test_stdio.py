"""Standard input, output and error: closed, redirected, full, broken; no byte lost and none read ahead."""

import hashlib
import itertools
import os
import subprocess

import pytest
from harness import readable, write

PROBE = """
import os, sys
def kind(fd):
    try:
        s = os.fstat(fd)
        return oct(s.st_mode)[:5]
    except OSError as e:
        return e.errno
report = repr([[kind(fd) for fd in range(3)], [getattr(s, 'name', s) for s in (sys.stdin, sys.stdout, sys.stderr)],
               [s is None for s in (sys.__stdin__, sys.__stdout__, sys.__stderr__)], os.open('/dev/null', 0)])
with open(sys.argv[1], 'w') as f:
    f.write(report + str(f.fileno()))
print('to stdout')
if sys.stderr: print('to stderr', file=sys.stderr)
"""


@pytest.mark.parametrize("closed", [c for n in range(4) for c in itertools.combinations(range(3), n)], ids=str)
def test_closed_stdio(shared, closed):
    reports = []

    def args():
        reports.append(f"{shared.work}/report-{len(reports)}")
        return ["-c", PROBE, reports[-1]]

    shared.same_as(args, True, lambda: {"close": closed})
    texts = {open(path).read() for path in reports}
    for path in reports:
        os.remove(path)
    assert len(texts) == 1, texts


def test_closed_stdio_with_exception(shared):
    for closed in ((2,), (1,), (0, 1, 2)):
        shared.same(["-c", "raise SystemExit('text')"], close=closed)
        shared.same(["-c", "1/0"], close=closed)


def test_output_to_file_appends(shared):
    """The program starts writing where the caller's offset is, and the caller goes on after it."""
    def run(runner, name):
        path = f"{shared.work}/{name}"
        with open(path, "w+b", buffering=0) as file:
            file.write(b"before\n")
            result = runner(["-c", "import sys, os; print('one'); os.write(1, b'raw\\n'); print('two', file=sys.stderr)"],
                            stdout=file, stderr=file)
            file.write(b"after\n")
        data = open(path, "rb").read()
        os.remove(path)
        return result, data

    want = run(shared.run_python, "cold")[1]

    def attempt():
        result, data = run(shared.run, "warm")
        assert data == want
        return result

    shared.until_warm(attempt)


def test_append_mode_and_seek(shared):
    program = "import sys, os; print('x' * 5, sys.stdout.mode, os.lseek(1, 0, 1)); sys.stdout.flush(); " \
              "print(os.lseek(1, 0, 1), sys.stdout.seekable(), sys.stdout.tell())"
    contents = []

    def how():
        file = open(f"{shared.work}/append", "ab", buffering=0)
        files.append(file)
        file.truncate(0)
        file.write(b"old ")
        return {"stdout": file}

    files = []
    want = shared.run_python(["-c", program], **how())
    contents.append(open(f"{shared.work}/append", "rb").read())

    def attempt():
        got = shared.run(["-c", program], **how())
        assert got.status == want.status == 0
        assert open(f"{shared.work}/append", "rb").read() == contents[0]
        return got

    shared.until_warm(attempt)
    for file in files:
        file.close()


def test_same_file_for_stdin_and_stdout(shared):
    path = write(f"{shared.work}/both", "line one\nline two\n")
    program = "import sys; print(sys.stdin.readline().upper(), end='')"
    results = []

    def how():
        file = open(path, "r+b", buffering=0)
        files.append(file)
        file.truncate(0)
        file.write(b"line one\n")
        file.seek(0)
        return {"stdin": file, "stdout": file}

    files = []
    shared.run_python(["-c", program], **how())
    results.append(open(path, "rb").read())

    def attempt():
        got = shared.run(["-c", program], **how())
        results.append(open(path, "rb").read())
        return got

    shared.until_warm(attempt)
    for file in files:
        file.close()
    assert set(results) == {b"line one\nLINE ONE\n"}


@pytest.mark.parametrize("program", [
    "print('x')", "print('x' * 100000)", "import sys; sys.stdout.write('x'); sys.exit(3)",
    "import sys; print('x'); sys.stdout.flush()", "import os; os.write(1, b'x')",
    "import sys, atexit; atexit.register(print, 'late')", "import sys; print('e' * 10, file=sys.stderr)",
])
def test_full_device(shared, program):
    """Python ends with 120 when its output cannot be flushed."""
    with open("/dev/full", "wb") as full:
        shared.same(["-c", program], stdout=full)
        shared.same(["-c", program], stdout=full, stderr=full)


@pytest.mark.parametrize("program", [
    "print('x')", "print('x' * 1000000)", "import os; os.write(1, b'x')",
    "import signal; signal.signal(signal.SIGPIPE, signal.SIG_DFL); import os; os.write(1, b'x')",
    "import sys\ntry:\n  print('x', flush=True)\nexcept BrokenPipeError: sys.stderr.write('broken'); sys.exit(5)",
])
def test_broken_pipe(shared, program):
    ends = []

    def how():
        read, broken = os.pipe()
        os.close(read)
        ends.append(broken)
        return {"stdout": broken}

    try:
        shared.same_as(lambda: ["-c", program], True, how)
    finally:
        for fd in ends:
            os.close(fd)


def test_reader_that_leaves_early(shared):
    """`warmpy … | head -c 10`: the program learns of it, as python does."""
    def run(runner):
        process = shared.spawn([runner, "-c", "import sys\nwhile True: sys.stdout.write('y\\n' * 1000)"])
        assert os.read(process.stdout.fileno(), 10)
        process.stdout.close()
        return process.finish()

    want = run(shared.python)
    got = shared.until_warm(lambda: run(shared.warmpy))
    assert (got.status, got.err) == (want.status, want.err)


def test_stdin_is_not_read_ahead(shared):
    """What the program does not read belongs to whoever comes after it."""
    path = write(f"{shared.work}/lines", "".join(f"line {i}\n" for i in range(20000)))
    for program in ("import os; print(os.read(0, 7))", "pass", "import sys; print(sys.stdin.buffer.raw.read(14))",
                    "import os; os.lseek(0, 70, 0)", "input()"):
        def run(runner):
            with open(path, "rb", buffering=0) as file:
                result = shared.spawn([runner, "-c", program], stdin=file).finish()
                return result, result.out, file.tell(), subprocess.run(["cat"], stdin=file, capture_output=True).stdout

        want = run(shared.python)
        got = []

        def attempt():
            got[:] = run(shared.warmpy)
            return got[0]

        shared.until_warm(attempt)
        assert tuple(got[1:]) == want[1:], program


def test_stdin_of_a_pipe_is_left_to_the_next(shared):
    script = f'({shared.warmpy} -c "import os; print(os.read(0, 6))"; cat)'
    cold = f'({shared.python} -c "import os; print(os.read(0, 6))"; cat)'
    shared.ready()
    outputs = [shared.spawn(["/bin/sh", "-c", text], input=b"first\nsecond\nthird\n").finish().out
               for text in (script, cold)]
    assert outputs[0] == outputs[1] == b"b'first\\n'\nsecond\nthird\n"


def test_pipe_in_both_directions(shared):
    """A dialogue: nothing may be held back on either side."""
    shared.ready()
    process = shared.start(["-u", "-c", "import sys\nfor line in sys.stdin: print(line.strip()[::-1])"])
    process.popen.stdin = None
    process.finish()
    process = shared.start(["-c", "while True: print(input()[::-1], flush=True)"], stdin=subprocess.PIPE)
    for word in (b"abc", b"defg", b"x" * 5000):
        process.stdin.write(word + b"\n")
        process.stdin.flush()
        assert readable(process.stdout.fileno(), 30)
        assert process.line() == word[::-1] + b"\n"
    process.stdin.close()
    result = process.finish()
    assert result.status == 1 and b"EOFError" in result.err


def test_large_output(shared):
    """50 MB through a pipe, byte for byte, from an unflushed buffer at the end too."""
    program = "import sys\nfor i in range(50): sys.stdout.write(chr(97 + i % 26) * 1048575 + '\\n')\nsys.stdout.write('end')"
    want = hashlib.sha256()
    for i in range(50):
        want.update(bytes([97 + i % 26]) * 1048575 + b"\n")
    want.update(b"end")

    def attempt():
        result = shared.run(["-c", program])
        assert (result.status, result.err) == (0, b"")
        assert hashlib.sha256(result.out).hexdigest() == want.hexdigest()
        return result

    shared.until_warm(attempt)


def test_large_input(shared):
    data = os.urandom(1 << 20) * 20
    program = "import sys, hashlib; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())"
    assert shared.same(["-c", program], input=data).out.decode().strip() == hashlib.sha256(data).hexdigest()


def test_order_of_interleaved_output(shared):
    program = """
import sys, os, subprocess
print('1'); sys.stdout.flush(); print('2', file=sys.stderr); os.write(1, b'3\\n')
subprocess.run(['echo', '4']); print('5', flush=True); sys.stderr.write('6'); print('7')
"""
    shared.same(["-c", program], stderr=subprocess.STDOUT)
    shared.same(["-u", "-c", program], stderr=subprocess.STDOUT)


def test_replaced_and_reconfigured_streams(shared):
    program = """
import sys, io, os
sys.stdout.reconfigure(encoding='utf-16', errors='replace', newline='\\r\\n'); print('a\\nb')
sys.stdout.flush(); sys.stdout = io.TextIOWrapper(os.fdopen(os.dup(1), 'wb'), 'ascii', 'backslashreplace')
print('\xe9'); print('kept', file=sys.__stdout__)
sys.stderr = io.StringIO(); print('lost', file=sys.stderr)
"""
    shared.same(["-c", program])
    shared.same(["-c", "import sys; sys.stdout.close()"])
    shared.same(["-c", "import sys; sys.stdout.detach().write(b'detached')"])
    shared.same(["-c", "import os; os.close(1); print('nowhere')"])
    shared.same(["-c", "import os, sys; os.close(2); 1/0"])
    shared.same(["-c", "import os; os.dup2(2, 1); print('to stderr')"])
    shared.same(["-c", "import sys; del sys.stdout; print('x')"])
    shared.same(["-c", "import sys; sys.stdout = None; print('x')"])


def test_stream_attributes(shared):
    program = """
import sys
for s in (sys.stdin, sys.stdout, sys.stderr):
    print(s, s.name, s.mode, s.encoding, s.errors, s.newlines, s.line_buffering, s.write_through, s.isatty(), s.closed,
          s.fileno(), type(s.buffer).__name__, type(getattr(s.buffer, 'raw', None)).__name__, s.buffer.raw.closefd)
print(sys.stdin is sys.__stdin__, sys.stdout is sys.__stdout__, sys.stderr is sys.__stderr__)
"""
    shared.same(["-c", program])
    shared.same(["-c", program], input=b"abc")
    shared.same(["-u", "-c", program])
    shared.same(["-X", "utf8=0", "-c", program], env={"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}, warm=None)
    shared.same(["-c", program], env={"PYTHONIOENCODING": "latin-1:ignore"})
    shared.same(["-c", program], env={"PYTHONUNBUFFERED": "x"})


def test_output_to_sockets_and_devices(shared):
    import socket
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
        ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
        with ours, theirs:
            result = shared.run(["-c", "print('to a socket'); import sys; print(sys.stdout.seekable())"], stdout=theirs)
            assert result.status == 0 and ours.recv(1000) == b"to a socket\nFalse\n"
    with open("/dev/zero", "rb") as zero, open("/dev/null", "wb") as null:
        shared.same(["-c", "import sys; print(len(sys.stdin.buffer.read(10)))"], stdin=zero)
        shared.same(["-c", "print('x'); import sys; print(sys.stdout.isatty(), file=sys.stderr)"], stdout=null)


def test_directory_as_stdin(shared):
    fd = os.open("/", os.O_RDONLY)
    try:
        shared.same(["-c", "import sys; print(sys.stdin)"], stdin=fd, warm=None)
        shared.same([], stdin=fd, warm=None)
    finally:
        os.close(fd)


def test_write_only_stdin(shared):
    with open("/dev/null", "wb") as null:
        shared.same(["-c", "import sys; sys.stdin.read()"], stdin=null, warm=None)
