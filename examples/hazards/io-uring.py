"""io-uring: what a child submits completes in its parent's queue, for nobody who has asked."""

import ctypes
import mmap
import struct

from show import in_child

libc = ctypes.CDLL(None, use_errno=True)
params = (ctypes.c_uint32 * 30)()
ring = libc.syscall(425, 4, params)  # io_uring_setup
if ring < 0:
    raise SystemExit("not shown: io_uring is not permitted here")
submissions = mmap.mmap(ring, 4096)
entries = mmap.mmap(ring, 4096, offset=0x10000000)
sq_tail, sq_array, cq_head, cq_tail, cqes = params[11], params[16], params[20], params[21], params[25]


def completions():
    head, tail = (struct.unpack_from("I", submissions, at)[0] for at in (cq_head, cq_tail))
    return [struct.unpack_from("Q", submissions, cqes + 16 * (i & 7))[0] for i in range(head, tail)]


def submit():
    struct.pack_into("B31xQ", entries, 0, 0, 42)  # a NOP; 42 comes back with its completion
    struct.pack_into("I", submissions, sq_array, 0)
    struct.pack_into("I", submissions, sq_tail, 1)
    libc.syscall(426, ring, 1, 1, 1, None, 0)  # io_uring_enter, wait for one


print("before, the parent finds completions of:", completions())
in_child(submit)
print("after a child has submitted, it finds:", completions())
