# Run once by every standby, before anybody waits for it: writes the pages that a real program will write.
import sys

print(end="")
sys.stdout.flush()


def _function(argument=None):
    return [argument, {"key": argument}]


try:
    _function(len(sys.argv))
finally:
    del _function
