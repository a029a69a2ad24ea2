"""timer: timers are not inherited; what they were to limit is not limited in a child."""

import signal

from show import in_child

signal.setitimer(signal.ITIMER_PROF, 100)
print("in the process:", signal.getitimer(signal.ITIMER_PROF)[0] > 0)
print("in a child:", in_child(lambda: signal.getitimer(signal.ITIMER_PROF)[0] > 0))
