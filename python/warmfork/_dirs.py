"""Where the files of an installed warmfork lie."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def get_include() -> str:
    """Return the folder of `warmfork.h`.

    >>> "-I" + warmfork.get_include()
    '-I/home/me/.venv/lib/python3.12/site-packages/warmfork/include'

    Raises FileNotFoundError when this copy was installed without the header.
    """
    return _folder("include", "warmfork.h")


def get_library_dir() -> str:
    """Return the folder of `libwarmfork.so`.

    >>> "-L" + warmfork.get_library_dir()
    '-L/home/me/.venv/lib/python3.12/site-packages/warmfork/lib'

    Raises FileNotFoundError when this copy was installed without the library.
    """
    return _folder("lib", "libwarmfork.so")


def _folder(name: str, file: str) -> str:
    folder = _PACKAGE / name
    if not (folder / file).exists():
        raise FileNotFoundError(f"warmfork was installed without {folder / file}")
    return str(folder)
