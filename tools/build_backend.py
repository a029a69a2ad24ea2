"""meson-python, with wheels tagged for the oldest CPython that they run on.

meson-python tags an abi3 wheel with the version that it was built by (cp312-abi3), although the stable ABI that it was
built for (`limited_api` in meson.build) is older; such a wheel would be refused by 3.10. So the tag is put right here,
in the wheel's name and in its WHEEL file.
"""

import base64
import hashlib
import sys
import zipfile
from pathlib import Path
from typing import Any

import mesonpy
from mesonpy import *  # noqa: F403  (the other hooks, as they are)

OLDEST = "cp310"  # limited_api in meson.build, requires-python in pyproject.toml


def build_wheel(
    wheel_directory: str, config_settings: dict[str, Any] | None = None, metadata_directory: str | None = None
) -> str:
    name: str = mesonpy.build_wheel(wheel_directory, config_settings, metadata_directory)
    built = f"cp{sys.version_info[0]}{sys.version_info[1]}-abi3"
    if built not in name or built == f"{OLDEST}-abi3":
        return name
    old = Path(wheel_directory, name)
    new = old.with_name(name.replace(built, f"{OLDEST}-abi3"))
    with zipfile.ZipFile(old) as source, zipfile.ZipFile(new, "w") as target:
        retag(source, target, built)
    old.unlink()
    return new.name


def retag(source: zipfile.ZipFile, target: zipfile.ZipFile, built: str) -> None:
    """Copies everything, modes included, but the tag in WHEEL and that file's line in RECORD."""
    changed = {}
    for entry in source.infolist():  # RECORD comes last, as the format wants it
        data = source.read(entry)
        if entry.filename.endswith(".dist-info/WHEEL"):
            data = data.replace(f"Tag: {built}".encode(), f"Tag: {OLDEST}-abi3".encode())
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            changed[entry.filename] = f"{entry.filename},sha256={digest},{len(data)}"
        elif entry.filename.endswith(".dist-info/RECORD"):
            lines = data.decode().splitlines()
            data = "".join(changed.get(line.split(",")[0], line) + "\n" for line in lines).encode()
        target.writestr(entry, data)
