"""warmfork: Python programs that start in about the time of /bin/true.

The map: programs are run with the command `warmpy`, zygotes are managed with `warmctl`; this package holds what
those two load into an interpreter (`_zygote`, `_observe.so`, `boot.py`, `cold_init.py`: not for import). To import:

* is this process safe to fork? `audit()`, `is_safe_to_fork()`, `safefork()`, `audit_at_fork()`, `trace()`; what they
  answer with: `Report`, `Finding`, `UnsafeForkError`, `UnsafeForkWarning`
* where the C library is: `get_include()`, folder of `warmfork.h`, and `get_library_dir()`, folder of `libwarmfork.so`
"""

from warmfork._auditor import audit
from warmfork._dirs import get_include, get_library_dir
from warmfork._forking import UnsafeForkWarning, audit_at_fork, is_safe_to_fork, safefork
from warmfork._report import Finding, Report, UnsafeForkError
from warmfork._trace import trace

__all__ = [
    "Finding",
    "Report",
    "UnsafeForkError",
    "UnsafeForkWarning",
    "__version__",
    "audit",
    "audit_at_fork",
    "get_include",
    "get_library_dir",
    "is_safe_to_fork",
    "safefork",
    "trace",
]

__version__ = "0.1.0"
