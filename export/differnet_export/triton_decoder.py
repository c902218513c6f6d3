"""The first step of Triton's ensemble: a picture's file to the graph's input.

Copied as `model.py` into the repository and run by Triton's Python backend; its Python needs
differnet-edge with an OpenCV extra. The interface:
https://github.com/triton-inference-server/python_backend
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from differnet_runtime.errors import DifferNetError
from differnet_runtime.images import decode_image
from differnet_runtime.inspection.preprocess import preprocess
from differnet_runtime.model_file.contract import InputContract


class TritonPythonModel:
    """Decodes pictures and brings them to the model's input, as a station does."""

    def initialize(self, args: dict[str, str]) -> None:
        """Reads the input's contract from the parameters of the configuration."""
        parameters = json.loads(args["model_config"])["parameters"]
        text = parameters["differnet.input"]["string_value"]
        self._contract = InputContract.model_validate_json(text)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers each request: `(N, 1)` files' bytes to `(N, height, width, C) uint8`."""
        import triton_python_backend_utils as triton

        answers = []
        for request in requests:
            files = triton.get_input_tensor_by_name(request, "file").as_numpy().reshape(-1)
            try:
                images = [decode_image(data, "the request's picture") for data in files]
                frames = np.stack([preprocess(image, self._contract) for image in images])
            except DifferNetError as error:
                answers.append(triton.InferenceResponse([], triton.TritonError(str(error))))
                continue
            answers.append(triton.InferenceResponse([triton.Tensor("image", frames)]))
        return answers
