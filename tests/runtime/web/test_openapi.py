"""The description is of every route, and true: schemathesis finds nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from fastapi.routing import APIRouter, iter_route_contexts

from differnet_runtime.config.models import WebConfig
from differnet_runtime.web import guard
from differnet_runtime.web.routing import StationRoute
from differnet_runtime.web.server import ROUTERS, WebServer
from tests.fakes.station import FakeStation
from tests.runtime.web.client import TOKEN, Client, of

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")


@pytest.fixture
def brief(station: FakeStation) -> Iterator[Client]:
    """Of a server whose streams end soon, so that they can be tried like all else."""
    server = WebServer(WebConfig(port=0), station, station.registry, stream_s=0.01)
    server.start()
    client = of(server)
    yield client
    client.close()
    server.stop()


def described(client: Client, **headers: str) -> dict[str, dict[str, Any]]:
    return json.loads(client.get("/openapi.json", **headers).data)["paths"]


def routed(*more: APIRouter) -> set[tuple[str, str]]:
    """Returns what the routers really route."""
    found = [one for router in (*ROUTERS, *more) for one in iter_route_contexts(router.routes)]
    assert all(isinstance(one.original_route, StationRoute) for one in found)
    return {(one.path, method) for one in found for method in one.methods}


def test_every_route_is_in_it(client: Client) -> None:
    found = {(path, method.upper()) for path, one in described(client).items() for method in one}
    assert found == routed()
    assert len(found) >= 28


def test_a_handler_that_would_run_in_other_threads_is_refused() -> None:
    with pytest.raises(TypeError, match="blocking must be `async def`"):

        @APIRouter(route_class=StationRoute).get("/blocking")
        def blocking() -> None: ...


def test_with_a_token_the_login_is_in_it_too(station: FakeStation, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN, encoding="utf-8")
    config = WebConfig(port=0, token_file=tmp_path / "token")
    server = WebServer(config, station, station.registry)
    server.start()
    try:
        paths = described(of(server), Authorization=f"Bearer {TOKEN}")
        found = {(path, method.upper()) for path, one in paths.items() for method in one}
        assert found == routed(guard.router)
        assert {"/login", "/logout"} <= set(paths)
        for path in set(paths) - {"/login"}:
            for operation in paths[path].values():
                assert "application/json" in operation["responses"]["401"]["content"]
    finally:
        server.stop()


def test_its_schemas_are_json_schema(reader: Client) -> None:
    document = json.loads(reader.get("/openapi.json").data)
    assert document["openapi"] == "3.1.0"
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    references = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert references <= set(document["components"]["schemas"])


SCHEMATHESIS_CONFIG = """
[parameters]
"path.camera" = ["left", "right"]

# A data set has no report before its first training.
[[operations]]
include-path = "/api/teach/{name}/report"
checks.ensure_resource_availability.enabled = false
"""


def schemathesis(client: Client, folder: Path, *options: str) -> None:
    """Runs it over every route, with names of cameras that are there; fails with what it found."""
    config = folder / "schemathesis.toml"
    config.write_text(SCHEMATHESIS_CONFIG, encoding="utf-8")
    done = subprocess.run(
        [str(SCHEMATHESIS), "--config-file", config, "--no-color", "run",
         f"{client.root}/openapi.json", "--checks", "all", "--seed", "5", "--request-timeout", "20",
         *options],
        capture_output=True, text=True, check=False, timeout=3000, cwd=folder,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    found = re.search(r"(\d+) selected / (\d+) total", done.stdout)
    assert found is not None
    assert found[1] == found[2]
    assert int(found[1]) >= 29


def test_schemathesis_finds_nothing(brief: Client, tmp_path: Path) -> None:
    schemathesis(brief, tmp_path, "--max-examples", "2", "--phases", "coverage,fuzzing")
    assert brief.get("/livez").status == 200


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_schemathesis_finds_nothing_in_many_examples(brief: Client, tmp_path: Path) -> None:
    schemathesis(brief, tmp_path, "--max-examples", "200")
    assert brief.get("/livez").status == 200
