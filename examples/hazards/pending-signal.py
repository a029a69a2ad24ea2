"""pending-signal: a signal that waits is not inherited; the child never gets it."""

import os
import signal

from show import in_child

got = []
signal.signal(signal.SIGUSR1, lambda number, frame: got.append(number))
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
os.kill(os.getpid(), signal.SIGUSR1)


def unblock():
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    return f"{len(got)} signals"


print("in a child:", in_child(unblock))
print("in the process:", unblock())
