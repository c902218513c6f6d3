"""Whatever a file holds, it is read as a configuration or refused by a named error."""

from __future__ import annotations

import copy
import math
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from differnet_runtime.config import differences, load_config
from differnet_runtime.config.loading import tomllib
from differnet_runtime.config.problems import keys_at
from differnet_runtime.errors import ConfigError
from tests.runtime.config.whole import WHOLE

SHORT, FULL = 1_000, 10_000
PASSWORD = "hunter2"
TABLE = tomllib.loads(WHOLE)
VALUES: tuple[Any, ...] = (
    *(True, False, 0, 1, -1, 2**31, 2**63 - 1, 2**63, -(2**64), 10**300, 0.0, -0.5, 1e308, 1e-308),
    *(
        math.nan,
        math.inf,
        -math.inf,
        "",
        " ",
        "0",
        "x" * 5000,
        "a\nb",
        "\x00",
        "\x1b[31m",
        "\u202e",
    ),
    *(
        "naïve",
        "部品",
        "🔩",
        "../../etc/passwd",
        "/",
        "~",
        "-",
        "#",
        "rtsp://",
        "gst:",
        "fake:-1ms",
    ),
    *([], {}, [[]], [{}], [1, "a", [2.0]], {"a": {"b": {"c": {}}}}, {"": ""}, {"é": [{"ü": 1}]}),
)
Mutation = Callable[[random.Random, dict[str, Any]], None]


def _tables(table: dict[str, Any]) -> list[dict[str, Any]]:
    below = [item for item in table.values() if isinstance(item, dict)]
    return [table, *(found for item in below for found in _tables(item))]


def _place(chance: random.Random, table: dict[str, Any]) -> tuple[dict[str, Any], str]:
    found = chance.choice([part for part in _tables(table) if part])
    return found, chance.choice(list(found))


def swap(chance: random.Random, table: dict[str, Any]) -> None:
    part, key = _place(chance, table)
    part[key] = chance.choice(VALUES)


def misspell(chance: random.Random, table: dict[str, Any]) -> None:
    part, key = _place(chance, table)
    at = chance.randrange(len(key) + 1)
    letters = chance.choice(["", "x", "E", "é", ".", '"', "\n", "_" * 300])
    part[key[:at] + letters + key[at + chance.randrange(2) :]] = part.pop(key)


def drop(chance: random.Random, table: dict[str, Any]) -> None:
    part, key = _place(chance, table)
    del part[key]


def move(chance: random.Random, table: dict[str, Any]) -> None:
    part, key = _place(chance, table)
    value = part.pop(key)
    chance.choice(_tables(table))[key] = value


def add_known(chance: random.Random, table: dict[str, Any]) -> None:
    """Sets a key that exists, mostly to what it may not be."""
    name = chance.choice(keys_at(()))
    path = (name, "top") if name in ("camera", "webhook") else (name,)
    part = table
    for step in path:
        if not isinstance(part.get(step), dict):
            part[step] = {}
        part = part[step]
    part[chance.choice(keys_at(path))] = chance.choice(VALUES)


def number(chance: random.Random, table: dict[str, Any]) -> None:
    """Changes a number to another; many of these configurations are sound."""
    part = chance.choice(_tables(table))
    for key, value in part.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            part[key] = type(value)(value * chance.choice([1, 2, 0.5, 10, -1]))


def nest(chance: random.Random, table: dict[str, Any]) -> None:
    part, key = _place(chance, table)
    value: Any = part[key]
    for _ in range(chance.choice([1, 5, 19, 25, 200])):
        value = {key: value} if chance.random() < 0.5 else [value]
    part[key] = value


MUTATIONS: tuple[Mutation, ...] = (swap, misspell, drop, move, add_known, number, nest)


def _damaged(chance: random.Random, data: bytes) -> bytes:
    """Damages the text itself."""
    at = chance.randrange(len(data))
    until = min(len(data), at + chance.choice([1, 1, 2, 10, 100]))
    kind = chance.randrange(6)
    if kind == 0:
        return data[:at] + data[until:]
    if kind == 1:
        return data[:at] + chance.randbytes(until - at) + data[until:]
    if kind == 2:
        return data[:at]
    if kind == 3:
        return data[:until] + data[at:]
    if kind == 4:
        return data[:at] + chance.choice([b"[", b"{", b"'''", b'"', b"=", b"\0"]) + data[at:]
    return data[:at] + b"[" * chance.choice([1, 3, 3000]) + data[at:]


def generated(seed: int) -> tuple[bytes, bytes | None]:
    """Makes a configuration and, for one in four, a drop-in; the same for the same seed."""
    chance = random.Random(seed)
    texts = []
    for _ in range(1 if chance.random() < 0.75 else 2):
        table = copy.deepcopy(TABLE)
        for _ in range(chance.choice([0, 1, 1, 2, 4])):
            chance.choice(MUTATIONS)(chance, table)
        try:
            data = tomli_w.dumps(table).encode()
        except RecursionError:
            data = WHOLE.encode()
        texts.append(_damaged(chance, data) if chance.random() < 0.3 and data else data)
    return texts[0], texts[1] if len(texts) > 1 else None


def judged(folder: Path, seed: int) -> str:
    """Loads a generated configuration; returns `loaded` or `refused`, or fails, naming the seed."""
    path, drop_in = folder / "line3.toml", folder / "line3.d" / "10.toml"
    main, other = generated(seed)
    path.write_bytes(main)
    drop_in.unlink(missing_ok=True)
    if other is not None:
        drop_in.write_bytes(other)
    try:
        config = load_config(path).config
    except ConfigError as error:
        text = str(error)
        assert all(
            line.startswith((f"{path}: ", f"{drop_in}: ", "... and ")) for line in text.split("\n")
        ), text
        assert PASSWORD not in text
        assert text.isprintable() or "\n" in text
        return "refused"
    except Exception as error:
        raise AssertionError(f"seed {seed}: {main!r}, {other!r}") from error
    again = folder / "again.toml"
    again.write_text(tomli_w.dumps(config.model_dump(mode="json", exclude_none=True)), "utf-8")
    read = load_config(again).config
    assert read == config
    assert not differences(config, read, {}, {})
    return "loaded"


def run(folder: Path, seeds: range) -> Counter[str]:
    (folder / "line3.d").mkdir()
    seen: Counter[str] = Counter()
    for seed in seeds:
        seen[judged(folder, seed)] += 1
    return seen


def test_a_thousand_generated_configurations(tmp_path: Path) -> None:
    seen = run(tmp_path, range(SHORT))
    assert seen["loaded"] + seen["refused"] == SHORT
    assert min(seen["loaded"], seen["refused"]) > SHORT / 20  # neither side is left untried


@pytest.mark.slow
def test_ten_thousand_generated_configurations(tmp_path: Path) -> None:
    from benchmarks.machine import write

    seen = run(tmp_path, range(FULL))
    assert seen["loaded"] + seen["refused"] == FULL
    write("configurations", {"generated": FULL, "crashes": 0, **seen})


@pytest.mark.slow
def test_ten_thousand_files_of_noise(tmp_path: Path) -> None:
    chance = random.Random(5)
    path = tmp_path / "noise.toml"
    for _ in range(FULL):
        path.write_bytes(chance.randbytes(chance.randrange(200)))
        with pytest.raises(ConfigError, match=r"noise\.toml: "):
            load_config(path)
