"""gpu: a CUDA context does not survive a fork. Needs torch and a GPU."""

from show import in_child

try:
    import torch
except ImportError:
    torch = None

if torch is not None and torch.cuda.is_available():
    torch.zeros(1).cuda()
    print("in a child:", in_child(lambda: torch.zeros(1).cuda()))
else:
    print("not shown: there is no torch, or no GPU")
