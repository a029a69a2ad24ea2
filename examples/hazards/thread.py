"""thread: a child has no other thread than the one that forked, and what the others would do is never done."""

import queue
import threading

from show import in_child

jobs = queue.Queue()


def worker():
    while True:
        jobs.get()
        jobs.task_done()


def one_job():
    jobs.put("job")
    jobs.join()
    return "done"


threading.Thread(target=worker, daemon=True).start()
print("in the process itself:", one_job())
print("in a child:", in_child(one_job))
