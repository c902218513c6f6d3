"""The routes below `/api/teach`, answered from memory: nothing is collected or trained."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import cv2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from differnet_runtime.teaching.records import now
from differnet_runtime.teaching.views import DatasetView, TeachView
from tests.drawn import draw_part
from tests.fakes.station import HASHES, FakeStation

GOAL = 40
MODEL = HASHES[1]
"""What a training makes: the model of `FakeStation` that does not judge yet."""
Handler = Callable[[Request], Awaitable[Response]]


def jpeg(seed: int, *, defect: bool = False, size: int = 160) -> bytes:
    """Returns a drawn part as JPEG."""
    encoded: bytes = cv2.imencode(".jpg", draw_part(seed, defect=defect, size=size))[1].tobytes()
    return encoded


class Refusal(Exception):  # noqa: N818 - it is the request that errs
    """Becomes the answer to a request."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status


@dataclass
class Dataset:
    """What was collected for one part."""

    name: str
    camera: str
    region: dict[str, int] | None
    created: str = field(default_factory=now)
    collecting: bool = False
    repeats: int = 0
    pictures: list[dict[str, Any]] = field(default_factory=list)
    training: dict[str, Any] | None = None
    report: bool = False
    model: dict[str, Any] | None = None
    obstacle: str | None = None

    def add(self, cause: str | None = None) -> None:
        """Adds a different part; a cause makes it a strange one."""
        number = len(self.pictures) + 1
        time = datetime.fromisoformat(self.created) + timedelta(seconds=number)
        self.pictures.append({"id": f"{number:06d}", "time": time.isoformat(), "kept": True,
                              "strange": cause is not None, "cause": cause})  # fmt: skip

    def view(self) -> dict[str, Any]:
        """Returns what the API answers."""
        kept = [one for one in self.pictures if one["kept"]]
        view = DatasetView(
            **vars(self), goal=GOAL, parts=len(kept), thrown_out=len(self.pictures) - len(kept),
            strange=sum(one["strange"] for one in kept),
        )  # fmt: skip
        return view.model_dump(mode="json")


class FakeTeaching:
    """The data sets of a station; tests change them as training or a camera would.

    Args:
        station: Answers all other requests.
    """

    def __init__(self, station: FakeStation) -> None:
        self.station = station
        self.datasets: dict[str, Dataset] = {}
        self.trainable: tuple[bool, str | None] = (True, None)
        self.repeat: str | None = None  # why the present frame is not taken
        self.uploaded = b""
        self.answers_uploads = threading.Event()  # cleared, it lets them wait
        self.answers_uploads.set()
        self.asked: Counter[str] = Counter()

    def before(self, app: ASGIApp) -> ASGIApp:
        """Returns an application that answers what belongs to Teach and passes on the rest."""
        own = Starlette(
            routes=self._routes(),
            exception_handlers={Refusal: _refused},  # type: ignore[dict-item]
        )

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            path: str = scope["path"]
            self.asked[path] += 1
            await (own if path.startswith("/api/teach") else app)(scope, receive, send)

        return answer

    def train(self, name: str) -> None:
        """Ends a training with a model."""
        dataset = self.datasets[name]
        assert dataset.training is not None
        dataset.training |= {"state": "done", "done": 1.0, "ended": now()}
        self._trained(dataset)

    def _trained(self, dataset: Dataset) -> None:
        dataset.report = True
        dataset.model = {
            "id": MODEL, "name": dataset.name, "threshold": 1.42,
            "detection_limit": "scratch from 9 px at contrast 40",
            "parts": dataset.view()["parts"],
        }  # fmt: skip

    def _find(self, request: Request) -> Dataset:
        found = self.datasets.get(request.path_params["name"])
        if found is None:
            raise Refusal(404, "there is no such dataset")
        return found

    async def _list(self, _request: Request) -> Response:
        can, reason = self.trainable
        datasets = [one.view() for one in self.datasets.values()]
        view = TeachView(datasets=datasets, trainable=can, reason=reason, needed_mib=1800,
                         free_mib=5200, goal=GOAL)  # fmt: skip
        return JSONResponse(view.model_dump(mode="json"))

    async def _create(self, request: Request) -> Response:
        wanted = await request.json()
        if wanted["name"] in self.datasets:
            raise Refusal(409, f"{wanted['name']} exists already; choose another name")
        dataset = self.datasets[wanted["name"]] = Dataset(**wanted)
        return JSONResponse(dataset.view(), 201)

    async def _one(self, request: Request) -> Response:
        return JSONResponse(self._find(request).view())

    async def _delete(self, request: Request) -> Response:
        del self.datasets[self._find(request).name]
        return Response(status_code=204)

    async def _collecting(self, request: Request) -> Response:
        dataset = self._find(request)
        dataset.collecting = (await request.json())["on"]
        return JSONResponse(dataset.view())

    async def _take(self, request: Request) -> Response:
        dataset = self._find(request)
        if self.repeat is None:
            dataset.add()
        else:
            dataset.repeats += 1
        answer = {"taken": self.repeat is None, "why": self.repeat}
        return JSONResponse(dataset.view() | answer)

    async def _picture(self, request: Request) -> Response:
        dataset, entry = self._find(request), request.path_params["id"]
        picture = next((one for one in dataset.pictures if one["id"] == entry), None)
        if picture is None:
            raise Refusal(404, "there is no such picture")
        if request.method == "POST":
            picture["kept"] = (await request.json())["kept"]
            return JSONResponse(dataset.view())
        drawn = jpeg(int(entry), defect=picture["strange"])
        return Response(drawn, media_type="image/jpeg")

    async def _training(self, request: Request) -> Response:
        dataset = self._find(request)
        if request.method == "DELETE":
            assert dataset.training is not None
            dataset.training |= {"state": "cancelled", "ended": now()}
            return JSONResponse(dataset.view())
        can, reason = self.trainable
        if not can:
            raise Refusal(409, str(reason))
        dataset.training = {"state": "running", "step": "learning", "done": 0.0,
                            "seconds_left": None, "error": None, "started": now(),
                            "ended": None}  # fmt: skip
        return JSONResponse(dataset.view(), 202)

    async def _report(self, request: Request) -> Response:
        return HTMLResponse(f"<h1>Report of {self._find(request).name}</h1>")

    async def _zip(self, request: Request) -> Response:
        return Response(self._find(request).name.encode(), media_type="application/zip")

    async def _upload(self, request: Request) -> Response:
        dataset = self._find(request)
        self.uploaded = await request.body()
        await asyncio.to_thread(self.answers_uploads.wait, 20)
        if not self.uploaded.startswith(b"ONNX"):
            raise Refusal(409, "this is no model that differnet export wrote")
        self._trained(dataset)
        return JSONResponse(dataset.view())

    def _routes(self) -> list[Route]:
        name = "/api/teach/{name}"
        table: list[tuple[str, str, Handler]] = [
            ("GET", "/api/teach", self._list),
            ("POST", "/api/teach", self._create),
            ("GET", name, self._one),
            ("DELETE", name, self._delete),
            ("POST", f"{name}/collecting", self._collecting),
            ("POST", f"{name}/pictures", self._take),
            ("GET POST", f"{name}/pictures/{{id}}", self._picture),
            ("POST DELETE", f"{name}/training", self._training),
            ("GET", f"{name}/report", self._report),
            ("GET", f"{name}/pictures.zip", self._zip),
            ("POST", f"{name}/model", self._upload),
        ]
        return [Route(path, handler, methods=methods.split()) for methods, path, handler in table]


async def _refused(_request: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, Refusal)
    return JSONResponse({"error": str(refusal)}, refusal.status)
