"""native-thread: threads that a C library has made are gone in a child as well, and Python knows nothing of them."""

import ctypes
import os
import threading

from show import in_child

libc = ctypes.CDLL(None)
libc.pthread_create(ctypes.byref(ctypes.c_ulong()), None, libc.pause, None)


def count():
    return f"{threading.active_count()} by threading, {len(os.listdir('/proc/self/task'))} by the kernel"


print("threads in the process:", count())
print("threads in a child:", in_child(count))
