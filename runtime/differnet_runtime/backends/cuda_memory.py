"""A tensor's memory: an array for the CPU and an address for the engine."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..cuda import cuda_errors, load


class Tensor:
    """Page-locked host memory, and how the device reaches it.

    Mapped memory has an address of its own on the device and is never copied: the right thing
    where CPU and GPU share their memory. Elsewhere device memory stands beside it, and `upload`
    and `download` copy between the two, in the stream's order and without waiting.

    Args:
        shape: With the engine's batch first.
        dtype: Of its elements.
        mapped: Use the host's memory in place.

    Raises:
        BackendError: There is not enough memory.
    """

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike, *, mapped: bool) -> None:
        driver = load()
        flags = driver.host_alloc_flags.DEVICEMAP if mapped else 0
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self._device: Any = None
        with cuda_errors(f"allocating {size / 1e6:.1f} MB for a tensor"):
            if not mapped:
                self._device = driver.mem_alloc(size)
            try:
                self.host: NDArray[Any] = driver.pagelocked_empty(shape, dtype, mem_flags=flags)
            except driver.Error:
                self._free_device()
                raise
        allocation: Any = self.host.base
        self.address = int(allocation.get_device_pointer() if mapped else self._device)
        """What the engine is given."""
        self._allocation = weakref.ref(allocation)

    def upload(self, stream: object, count: int) -> None:
        """Puts a copy of the first `count` items to the device into the stream."""
        if self._device is not None:
            load().memcpy_htod_async(self._device, self.host[:count], stream)

    def download(self, stream: object, count: int) -> None:
        """Puts a copy of the first `count` items from the device into the stream."""
        if self._device is not None:
            load().memcpy_dtoh_async(self.host[:count], self._device, stream)

    def holds(self, array: NDArray[Any]) -> bool:
        """Tells whether `array` is the host memory itself, from its start on."""
        return array.flags.c_contiguous and array.ctypes.data == self.host.ctypes.data

    def free(self) -> None:
        """Frees the memory; the host's stays while somebody else holds a view of it."""
        self._free_device()
        del self.host

    @property
    def viewed(self) -> bool:
        """After `free`: whether somebody still holds a view of the host memory."""
        return self._allocation() is not None

    def _free_device(self) -> None:
        if self._device is not None:
            self._device.free()
            self._device = None
