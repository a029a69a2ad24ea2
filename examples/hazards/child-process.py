"""child-process: only its own parent can wait for a process."""

import os
import subprocess

from show import in_child

sibling = subprocess.Popen(["true"])
print("in a child:", in_child(lambda: os.waitpid(sibling.pid, 0)))
print("in the process:", sibling.wait())
