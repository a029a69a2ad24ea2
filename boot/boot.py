# The first program of a zygote: `python OPTIONS boot.py _zygote.abi3.so MICROSECONDS`. It loads the extension by path,
# so that warmfork need not be installed where the interpreter looks, and raises. The interpreter then calls
# sys.excepthook from C with no Python frame below it: that is where the zygote lives (docs/design.md). Nothing of this
# file is left afterwards.
import sys


def _boot():
    spec = sys.modules["_frozen_importlib"].ModuleSpec(
        "warmfork._zygote", None, origin=sys.argv[1]
    )
    imp = sys.modules["_imp"]
    zygote = imp.create_dynamic(spec)
    imp.exec_dynamic(zygote)
    zygote.heap_setup()
    zygote.excepthook = sys.excepthook  # a sitecustomize may have set its own, which programs are to have
    sys.excepthook = zygote.serve


_boot()
raise SystemError("warmfork: the zygote's hook was not called")
