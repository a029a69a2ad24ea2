"""lock: a lock that another thread holds at the fork is held in the child, by nobody who could release it."""

import threading

from show import in_child

lock = threading.Lock()
held, done = threading.Event(), threading.Event()


def worker():
    with lock:
        held.set()
        done.wait()


thread = threading.Thread(target=worker)
thread.start()
held.wait()
print("in a child, lock.acquire()", in_child(lock.acquire))
done.set()
thread.join()
print("in the process, once the thread is done:", lock.acquire())
