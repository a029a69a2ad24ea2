#!/usr/bin/env python3
"""Checks that every #include keeps to the layers: `tools/check_layers.py [ROOT]`; exits 1 and lists those that do not.

    base <- wire <- channel <- { client, daemon, zygote }    client <- ctl    base <- { audit, queue }
    audit <- zygote

An arrow is "may include"; nothing sideways. Python.h only in src/zygote and in files named *module.c.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

MAY_INCLUDE = {
    "base": set(),
    "wire": {"base"},
    "channel": {"base", "wire"},
    "client": {"base", "wire", "channel"},
    "ctl": {"base", "wire", "channel", "client"},
    "daemon": {"base", "wire", "channel"},
    "zygote": {"base", "wire", "channel", "audit"},
    "audit": {"base"},
    "queue": {"base"},
}
PUBLIC = {"warmfork.h"}  # include/: the C library's interface, for the client and its users
INCLUDE = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)


def violations(root: Path) -> Iterator[str]:
    src = root / "src"
    for file in sorted(src.rglob("*.[ch]")):
        inside = file.relative_to(src)
        layer = inside.parts[0]
        if layer not in MAY_INCLUDE:
            yield f"src/{inside}: the layer {layer} is not in tools/check_layers.py"
            continue
        for match in INCLUDE.finditer(file.read_text()):
            reason = why_not(inside, layer, match[1], match[2])
            if reason:
                line = file.read_text()[: match.start(1 if match[1] else 2)].count("\n") + 1
                yield f"src/{inside}:{line}: {reason}"


def why_not(inside: Path, layer: str, quoted: str | None, angled: str | None) -> str | None:
    """What is wrong with this include, or None."""
    if angled is not None:
        if angled == "Python.h" and layer != "zygote" and not inside.name.endswith("module.c"):
            return "Python.h belongs in src/zygote and in files named *module.c"
        return None
    assert quoted is not None
    target = quoted.split("/")[0]
    if quoted in PUBLIC:
        return None if layer == "client" else f'"{quoted}" is the interface of the client'
    if target not in MAY_INCLUDE:
        return f'"{quoted}" is not relative to src/'
    return None if target in MAY_INCLUDE[layer] | {layer} else f'{layer} may not include {target} ("{quoted}")'


def main() -> int:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    found = list(violations(root))
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
