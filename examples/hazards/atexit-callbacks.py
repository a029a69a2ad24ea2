"""atexit: callbacks run in each child that ends in the ordinary way, and clean up what is the parent's."""

import atexit
import os
import shutil
import sys
import tempfile

folder = tempfile.mkdtemp()
atexit.register(shutil.rmtree, folder, ignore_errors=True)
print("before:", os.path.exists(folder), flush=True)
if os.fork() == 0:
    sys.exit()
os.wait()
print("after a child has ended:", os.path.exists(folder))
