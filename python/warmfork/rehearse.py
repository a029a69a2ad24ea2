# Run once by every zygote, before it serves: makes what a program makes at first use.
import sys

print(end="")
sys.stdout.flush()


def _function(argument=None):
    return [argument, {"key": argument}]


try:
    _function(len(sys.argv))
finally:
    del _function
