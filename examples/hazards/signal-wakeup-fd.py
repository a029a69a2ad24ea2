"""signal-wakeup-fd: a signal of the child wakes up its parent's event loop."""

import os
import signal

from show import in_child

read, write = os.pipe()
os.set_blocking(read, False)
os.set_blocking(write, False)
signal.set_wakeup_fd(write)
signal.signal(signal.SIGUSR1, lambda number, frame: None)
in_child(lambda: os.kill(os.getpid(), signal.SIGUSR1))
print("the parent is told of signal", *os.read(read, 10), "which was its child's")
