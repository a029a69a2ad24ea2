"""privileged-fd: a descriptor keeps the rights it was opened with, whoever the child becomes. Needs root."""

import os
import tempfile

from show import in_child

if os.geteuid() != 0:
    raise SystemExit("not shown: needs root")
secret = tempfile.NamedTemporaryFile()
secret.write(b"the secret")
secret.flush()


def as_nobody():
    os.setresuid(65534, 65534, 65534)
    try:
        open(secret.name)
    except PermissionError:
        return "may not open it, and reads: " + os.pread(secret.fileno(), 100, 0).decode()


print("a child without rights", in_child(as_nobody))
