"""file-lock: a flock is shared; when the child lets go of it, the parent has lost it, and does not know."""

import fcntl
import tempfile

from show import in_child

file = tempfile.NamedTemporaryFile()
fcntl.flock(file, fcntl.LOCK_EX)


def another_process():
    with open(file.name) as mine:
        fcntl.flock(mine, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return "has it"


print("another process before:", in_child(another_process))
in_child(lambda: fcntl.flock(file, fcntl.LOCK_UN))
print("another process after a child has unlocked:", in_child(another_process))
