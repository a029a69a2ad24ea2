"""warmfork: Python programs that start in about the time of /bin/true.

The map: programs are run with the command `warmpy`, zygotes are managed with `warmctl`; this package holds what
those two load into an interpreter (`_zygote`, `_observe.so`, `boot.py`, `cold_init.py`: not for import), and says
where the C library is:

* `get_include()`: folder of `warmfork.h`
* `get_library_dir()`: folder of `libwarmfork.so`
"""

from warmfork._dirs import get_include, get_library_dir

__all__ = ["__version__", "get_include", "get_library_dir"]

__version__ = "0.1.0"
