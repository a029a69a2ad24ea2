"""signal-mask: what is blocked is blocked in children, which then cannot be ended."""

import os
import signal

from show import in_child

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def ends():
    os.kill(os.getpid(), signal.SIGTERM)
    return "still there after SIGTERM"


print("a child is", in_child(ends))
