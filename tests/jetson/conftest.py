"""The device that these tests need; where it is missing they skip, with the reason."""

import pytest

from differnet_runtime.backends.cuda import Device, open_device
from differnet_runtime.backends.tensorrt import api
from differnet_runtime.errors import BackendUnavailableError


@pytest.fixture(scope="session")
def device() -> Device:
    """A GPU with pycuda and TensorRT."""
    try:
        device = open_device()
        api.load()
    except BackendUnavailableError as error:
        pytest.skip(str(error))
    return device
