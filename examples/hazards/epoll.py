"""epoll: the set is one; a child that takes a descriptor out of it takes it out of its parent's."""

import os
import select

from show import in_child

read, write = os.pipe()
events = select.epoll()
events.register(read, select.EPOLLIN)
os.write(write, b"x")
print("before: the parent sees", len(events.poll(0)), "event")
in_child(lambda: events.unregister(read))
print("after a child has unregistered it: the parent sees", len(events.poll(0)), "events")
