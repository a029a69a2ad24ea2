"""Fixtures are input of the programs under test, and some look like tests themselves."""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "system")]

collect_ignore = ["fixtures"]
