"""env-snapshot: a copy of the environment does not change with it."""

import os

from show import in_child

os.environ["DATABASE"] = "production"
settings = dict(os.environ)  # what many a library does when it is imported


def connect():
    os.environ["DATABASE"] = "test"
    return settings["DATABASE"]


print("a child for tests connects to:", in_child(connect))
