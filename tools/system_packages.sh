#!/bin/sh
# What the system must have before `make` can work: a C compiler, a CPython >= 3.10 with headers and venv; to make warmpy
# faster to build small, musl; and what its tests run. Missing packages are installed when we are root, else the one command to run is
# printed. Arguments: the python to use.
set -eu

python=${1:-python3}
needed=""
wished=""

compiles() { # include line, further arguments of the compiler
    include=$1
    shift
    printf '%s\nint main(void) { return 0; }\n' "$include" | "$@" -x c - -o /dev/null 2>/dev/null
}

have() { command -v "$1" >/dev/null 2>&1; }

have cc && compiles '#include <stdio.h>' cc || needed="$needed gcc libc6-dev"
if have "$python"; then
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
        echo "make: $python is $("$python" --version 2>&1), and warmfork needs CPython 3.10 or newer: make PYTHON=…" >&2
        exit 1
    }
    "$python" -c 'import ensurepip, venv' 2>/dev/null || needed="$needed python3-venv"
    headers=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    [ -f "$headers/Python.h" ] || needed="$needed python3-dev"
else
    needed="$needed python3 python3-venv python3-dev"
fi
have musl-gcc || wished="$wished musl-tools"
# Programs that the tests run in a terminal (tests/system/test_terminal_*.py).
have zsh || wished="$wished zsh"
have vim || wished="$wished vim"
have less || wished="$wished less"

[ -n "$needed$wished" ] || exit 0

command="apt-get install -y --no-install-recommends$needed$wished"
if have apt-get && [ "$(id -u)" = 0 ]; then
    echo "make: installing$needed$wished" >&2
    # Quietly, but with everything said when it fails. The lists may be missing altogether, as in a container.
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    if { $command || { apt-get update && $command; }; } >"$log" 2>&1 </dev/null; then
        exit 0
    fi
    cat "$log" >&2
    [ -n "$needed" ] || exit 0 # without musl, warmpy gets our own start-up code
    exit 1
fi
if [ -n "$needed" ]; then
    echo "make: these packages are missing:$needed$wished. Run this once, then make again:" >&2
    have apt-get && echo "    sudo $command" >&2
    exit 1
fi
echo "make: without musl-gcc warmpy uses start-up code of its own, which is as fast; without zsh, vim and less some tests are" \
    "skipped (sudo $command)" >&2
