import inspect
import pickle

import pytest

from differnet_runtime import errors
from differnet_runtime.errors import EngineFault, ImageReadError

NAMED = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.DifferNetError)
]


@pytest.mark.parametrize("kind", NAMED)
def test_an_error_reaches_another_process(kind: type[errors.DifferNetError]) -> None:
    own = kind.__init__ is not Exception.__init__
    count = len(inspect.signature(kind).parameters) if own else 1
    error = kind(*(f"text {k}" for k in range(count)))
    received = pickle.loads(pickle.dumps(error))
    assert type(received) is kind
    assert str(received) == str(error)
    assert vars(received) == vars(error)


def test_what_an_error_carries_reaches_another_process() -> None:
    picture = pickle.loads(pickle.dumps(ImageReadError("a.png", "the file is empty")))
    assert (picture.name, picture.cause) == ("a.png", "the file is empty")
    fault = pickle.loads(pickle.dumps(EngineFault("timeout", "no score")))
    assert (fault.code, fault.text) == ("timeout", "no score")
