"""inotify: an event is for whoever reads it first."""

import ctypes
import os
import tempfile

from show import in_child

libc = ctypes.CDLL(None)
with tempfile.TemporaryDirectory() as folder:
    watch = libc.inotify_init1(os.O_NONBLOCK)
    libc.inotify_add_watch(watch, folder.encode(), 0x100)  # IN_CREATE
    open(os.path.join(folder, "new"), "w").close()
    print("a child reads", in_child(lambda: len(os.read(watch, 1000)) > 0))
    try:
        os.read(watch, 1000)
    except BlockingIOError:
        print("the parent finds nothing to read")
