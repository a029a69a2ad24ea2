"""Something like a container of Docker's: what its processes may not do.

`confine` forbids the calling process, and so all that comes after it, what the documentation lists as "Significant syscalls
blocked by the default profile" (https://docs.docker.com/engine/security/seccomp/).
"""

import ctypes
import struct

PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ALLOW, ERRNO = 22, 2, 0x7FFF0000, 0x50000
LOAD, IF_EQUAL, IF_SET, RETURN = 0x20, 0x15, 0x45, 0x06
EPERM, ENOSYS = 1, 38
NUMBER, FIRST_ARGUMENT = 0, 16  # offsets in struct seccomp_data
CLONE, CLONE3, CLONE_NEW_ANY = 56, 435, 0x7E020000
# x86_64: acct, add_key, bpf, clock_adjtime, clock_settime, delete_module, finit_module, get_mempolicy, init_module, ioperm, iopl,
# kcmp, kexec_file_load, kexec_load, keyctl, mbind, mount, move_pages, name_to_handle_at, open_by_handle_at, perf_event_open,
# pivot_root, ptrace, quotactl, reboot, request_key, set_mempolicy, setns, settimeofday, swapoff, swapon, umount2, unshare,
# userfaultfd
FORBIDDEN = (163, 248, 321, 305, 227, 176, 313, 239, 175, 173, 172, 312, 320, 246, 250, 237, 165, 279, 303, 304, 298, 155, 101,
             179, 169, 249, 238, 308, 164, 168, 167, 166, 272, 323)


def step(code, value, if_true=0, if_false=0):
    return struct.pack("=HBBI", code, if_true, if_false, value)


def confine():
    steps = [step(LOAD, NUMBER)]
    for number in FORBIDDEN:
        steps += step(IF_EQUAL, number, 0, 1), step(RETURN, ERRNO | EPERM)
    steps += step(IF_EQUAL, CLONE3, 0, 1), step(RETURN, ERRNO | ENOSYS)  # its flags lie in memory
    steps += step(IF_EQUAL, CLONE, 0, 3), step(LOAD, FIRST_ARGUMENT), step(IF_SET, CLONE_NEW_ANY, 0, 1), step(RETURN, ERRNO | EPERM)
    steps.append(step(RETURN, ALLOW))
    program = ctypes.create_string_buffer(b"".join(steps))
    filters = ctypes.create_string_buffer(struct.pack("HP", len(steps), ctypes.addressof(program)))
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filters, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_SECCOMP)")
