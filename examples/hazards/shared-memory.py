"""shared-memory: what a child writes to a shared mapping, its parent finds."""

import mmap

from show import in_child

page = mmap.mmap(-1, 4096)


def write():
    page[:5] = b"child"


in_child(write)
print("the parent finds:", page[:5].decode())
