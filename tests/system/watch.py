"""inotify, by ctypes: the event by which tests wait for a daemon to have done something in its directory."""

import ctypes
import os
import select

libc = ctypes.CDLL(None, use_errno=True)

IN_ATTRIB, IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE = 0x4, 0x40, 0x80, 0x100, 0x200
IN_NONBLOCK, IN_CLOEXEC = 0o4000, 0o2000000


class Watch:
    """Tells that names appeared or disappeared in a directory (and in its subdirectory `inner`, once it exists).

    Use: `with Watch(directory, inner) as watch:` look; `watch.wait(seconds)`; look again. What happens after
    the watch was made is never missed.
    """

    def __init__(self, directory, inner):
        self.directory, self.inner = directory, inner
        self.fd = -1

    def __enter__(self):
        self.fd = libc.inotify_init1(IN_NONBLOCK | IN_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self._add(self.directory)
        self._add(self.inner)
        return self

    def __exit__(self, *exc):
        os.close(self.fd)

    def _add(self, path):
        mask = IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE
        libc.inotify_add_watch(self.fd, os.fsencode(path), mask)  # missing: its parent tells when it comes

    def wait(self, seconds):
        """True when something happened, False when nothing did within `seconds`."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        happened = bool(poll.poll(max(0, seconds) * 1000))
        try:
            while os.read(self.fd, 65536):
                pass
        except BlockingIOError:
            pass
        self._add(self.inner)
        return happened
