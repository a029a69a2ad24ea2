"""random-state: all children draw the same numbers."""

import random

from show import in_child

dice = random.Random()
print("children draw:", *[in_child(lambda: dice.randint(1, 1000)) for _ in range(4)])
