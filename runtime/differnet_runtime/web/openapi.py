"""The description of the API, from the same table as its routes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from pydantic.json_schema import JsonSchemaMode, models_json_schema

from ..metadata import Part
from .answers import JSON, Problem
from .endpoints import FORM, Content, Endpoint, NoQuery

ByModel = Mapping[Any, dict[str, Any]]  # by model and mode
_REF = "#/components/schemas/{model}"
_PROBLEMS = {
    400: "The request is malformed.",
    401: "The token is missing or wrong.",
    403: "Changes over HTTP are switched off, or a foreign page asked for one.",
    404: "There is no such thing.",
    408: "The body came too slowly.",
    409: "The station's state forbids it.",
    413: "The body is too long.",
    415: "The body is of another type.",
    421: "The Host header is not a name of loopback.",
    422: "A value is not as described.",
    429: "Too many wrong tokens, or commands, came from there.",
    431: "Address and headers are too long.",
    503: "The station can't answer just now.",
}
_ALWAYS = (400, 421, 422, 431, 503)
_OF_BODY = (403, 408, 413, 415)


def describe(endpoints: Sequence[Endpoint], *, token: bool) -> dict[str, Any]:
    """Returns the OpenAPI 3.1 document.

    Args:
        endpoints: Every route.
        token: Whether one is needed.
    """
    modes: JsonSchemaMode = "serialization"
    models = {content.model for one in endpoints for content in one.answers.values()}
    wanted = {(model, modes) for model in {*models, Problem} if model is not None}
    bodies: set[tuple[type[Part], JsonSchemaMode]] = {
        (one.body, "validation") for one in endpoints if one.body is not None
    }
    order = sorted(wanted | bodies, key=lambda pair: (pair[0].__name__, pair[1]))
    by_model, definitions = models_json_schema(order, ref_template=_REF)
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "A differnet-edge station", "version": version("differnet-edge")},
        "paths": {},
        "components": {"schemas": definitions.get("$defs", {})},
    }
    for endpoint in endpoints:
        path = document["paths"].setdefault(endpoint.path, {})
        operation = _operation(endpoint, by_model, token)
        path[endpoint.method.lower()] = operation
    if token:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


def _operation(endpoint: Endpoint, by_model: ByModel, token: bool) -> dict[str, Any]:
    responses = {
        str(status): _answer(content, by_model) for status, content in endpoint.answers.items()
    }
    for status in sorted({*_ALWAYS, *endpoint.problems, *_statuses(endpoint, token)}):
        problem = Content(_PROBLEMS[status], Problem)
        responses.setdefault(str(status), _answer(problem, by_model))
    operation: dict[str, Any] = {
        "summary": endpoint.summary,
        "operationId": _operation_id(endpoint),
        "parameters": [*_path(endpoint), *_query(endpoint)],
        "responses": responses,
    }
    if endpoint.body is not None:
        schema = by_model[endpoint.body, "validation"]
        media = FORM if endpoint.form else JSON
        operation["requestBody"] = {"required": True, "content": {media: {"schema": schema}}}
    return operation


def _operation_id(endpoint: Endpoint) -> str:
    words = "".join(one if one.isalnum() else " " for one in endpoint.path).split()
    return "_".join([endpoint.method.lower(), *words])


def _statuses(endpoint: Endpoint, token: bool) -> Iterable[int]:
    if token:
        yield from (401, 429)
    if endpoint.method == "POST":
        yield from _OF_BODY


def _answer(content: Content, by_model: ByModel) -> dict[str, Any]:
    model = content.model
    schema = by_model[model, "serialization"] if model is not None else {}
    media = {kind: {"schema": schema} if schema else {} for kind in content.media}
    return {"description": content.text, "content": media}


def _path(endpoint: Endpoint) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": dict(schema)}
        for name, schema in endpoint.parameters.items()
    ]


def _query(endpoint: Endpoint) -> list[dict[str, Any]]:
    if endpoint.query is NoQuery:
        return []
    schema = endpoint.query.model_json_schema()
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": _present(one)}
        for name, one in schema["properties"].items()
    ]


def _present(schema: dict[str, Any]) -> dict[str, Any]:
    """Takes null away: a key of a query is given, or left out."""
    schema = {key: value for key, value in schema.items() if key != "title"}
    kinds = [kind for kind in schema.pop("anyOf", []) if kind != {"type": "null"}]
    if schema.get("default", "") is None:
        del schema["default"]
    return {**schema, **(kinds[0] if kinds else {})}
