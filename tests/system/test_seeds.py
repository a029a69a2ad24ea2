"""Random number generators that a preload makes or seeds: what it seeds with a number is as it left it, in every run;
what the system seeded is another in each."""

import pytest
from test_preload import with_library
from test_staleness import is_preloaded

SHOW = "import random; print(random.random(), random.gauss(0, 1), random.getrandbits(64))"
OWN = "import seeding; print(seeding.rng.random(), seeding.rng.gauss(0, 1))"
NUMPY = "import numpy; print(numpy.random.random(2), numpy.random.standard_normal(3))"
NUMPY_OWN = "import seeding; print(seeding.rng.random(2), seeding.rng.standard_normal(3))"

SEEDED = {  # text of the module `seeding`, and a program
    "random.seed": ("import random; random.seed(0)", SHOW),
    "by another name": ("from random import seed; seed('text')", SHOW),
    "and drawn from": ("import random; random.seed(5); values = [random.random() for _ in range(5000)]", SHOW),
    "an odd gauss": ("import random; random.seed(5); random.gauss(0, 1)", SHOW),
    "setstate": ("import random; random.setstate(random.Random(8).getstate())", SHOW),
    "an instance": ("import random; rng = random.Random(4); rng.random()", OWN),
    "an instance of a subclass": ("import random\nclass R(random.Random): pass\nrng = R(4)", OWN),
    "one, and not the other": ("import random; rng = random.Random(); random.seed(3)", SHOW),
    "twice": ("import random; random.seed(); random.seed(3)", SHOW),
}
SEEDED_NUMPY = {
    "seed": ("import numpy; numpy.random.seed(7)", NUMPY),
    "and drawn from": ("import numpy; numpy.random.seed(7); numpy.random.random(10000); numpy.random.standard_normal()", NUMPY),
    "an array": ("import numpy; numpy.random.seed([1, 2, 3])", NUMPY),
    "set_state": ("import numpy; numpy.random.set_state(numpy.random.RandomState(2).get_state())", NUMPY),
    "default_rng": ("import numpy; rng = numpy.random.default_rng(3)", NUMPY_OWN),
    "RandomState": ("import numpy; rng = numpy.random.RandomState(9); rng.random()", NUMPY_OWN),
    "Philox": ("import numpy; rng = numpy.random.Generator(numpy.random.Philox(1))", NUMPY_OWN),
}
FRESH = {
    "random": ("import random", SHOW),
    "drawn from": ("import random; values = [random.random() for _ in range(5000)]", SHOW),
    "seeded and seeded again": ("import random; random.seed(3); random.seed()", SHOW),
    "an instance": ("import random; rng = random.Random()", OWN),
    "an instance, drawn from": ("import random; rng = random.Random(); values = [rng.random() for _ in range(1000)]; rng.gauss(0, 1)", OWN),
    "an instance of a subclass": ("import random\nclass R(random.Random): pass\nrng = R()", OWN),
    "a bound method": ("import random\nrng = random\ndraw = random.Random().random", "import seeding; print(seeding.draw())"),
    "the system's": ("import random; rng = random.SystemRandom()", OWN),
}
FRESH_NUMPY = {
    "numpy": ("import numpy", NUMPY),
    "drawn from": ("import numpy; numpy.random.random(100000)", NUMPY),
    "seed()": ("import numpy; numpy.random.seed(1); numpy.random.seed()", NUMPY),
    "default_rng": ("import numpy; rng = numpy.random.default_rng()", NUMPY_OWN),
    "its children": ("import numpy; rng = numpy.random.default_rng()",
                     "import seeding; print(seeding.rng.bit_generator.seed_seq.spawn(1)[0].generate_state(4))"),
    "RandomState": ("import numpy; rng = numpy.random.RandomState(); rng.random(1000)", NUMPY_OWN),
    "SFC64": ("import numpy; rng = numpy.random.Generator(numpy.random.SFC64()); rng.random(7)", NUMPY_OWN),
}


def preloaded(warm, text):
    with_library(warm, seeding=text)
    warm.environment["WARMFORK_PRELOAD"] = "seeding"
    is_preloaded(warm, "seeding")


def use_numpy(warm, request):
    warm.python = warm.environment["WARMFORK_PYTHON"] = request.getfixturevalue("numpy_python")


def assert_differ(warm, program):
    seen = [warm.run(["-c", program]) for _ in range(6)]
    assert all(result.status == 0 for result in seen), seen
    assert len({result.out for result in seen}) == len(seen), seen


@pytest.mark.parametrize("what", SEEDED)
def test_seeded_stays_seeded(warm, what):
    text, program = SEEDED[what]
    preloaded(warm, text)
    for _ in range(3):
        warm.same(["-c", "import seeding; " + program])


@pytest.mark.parametrize("what", SEEDED_NUMPY)
def test_seeded_numpy_stays_seeded(warm, what, request):
    use_numpy(warm, request)
    text, program = SEEDED_NUMPY[what]
    preloaded(warm, text)
    for _ in range(3):
        warm.same(["-c", "import seeding; " + program])


@pytest.mark.parametrize("what", FRESH)
def test_seeded_by_the_system_is_fresh(warm, what):
    text, program = FRESH[what]
    preloaded(warm, text)
    assert_differ(warm, "import seeding; " + program)


@pytest.mark.parametrize("what", FRESH_NUMPY)
def test_numpy_seeded_by_the_system_is_fresh(warm, what, request):
    use_numpy(warm, request)
    text, program = FRESH_NUMPY[what]
    preloaded(warm, text)
    assert_differ(warm, "import seeding; " + program)
