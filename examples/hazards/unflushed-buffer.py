"""unflushed-buffer: what was not flushed is in the buffers of both, and written by both."""

import os
import tempfile

with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "log")
    log = open(path, "w")
    log.write("one line\n")
    if os.fork() == 0:
        log.close()
        os._exit(0)
    os.wait()
    log.close()
    print("in the file:", open(path).read().splitlines())
