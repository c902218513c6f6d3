"""What our source asks of TensorRT, against NVIDIA's real bindings from 8.6 to 11.

Attributes and signatures only: nothing of TensorRT runs here.
"""

import functools
import re
from pathlib import Path

import pytest

import differnet_runtime
from tests.contract.bindings import WHEELS, Api, Bindings, bindings
from tests.contract.usage import Call, Usage, Use, usage

RUNTIME = Path(differnet_runtime.__file__).parent

# Used only where another thing exists, which the source asks for.
ONLY_WITH = {
    ("ILayer", "precision"): ("BuilderFlag", "FP16"),
    ("ILayer", "set_output_type"): ("BuilderFlag", "FP16"),
    ("IBuilderConfig", "progress_monitor"): ("", "IProgressMonitor"),
}
ONLY_WITHOUT = {("ICudaEngine", "device_memory_size"): ("ICudaEngine", "device_memory_size_v2")}

# Names that TensorRT's classes have, and other things of ours too.
COMMON = {"DEBUG", "append", "free", "log", "name", "pop", "release", "start", "update"}
COMMON |= {"uint8", "float32"}  # numpy's
COMMON |= {"device_memory", "enqueue"}  # of our own engine and graph


def sources() -> list[Path]:
    """Every file that reaches TensorRT; others only ask whether it can be loaded."""
    asking = re.compile(r"tensorrt\.api import|from (\.api|\.) import .*\b(load|api)\b")
    found = [
        path
        for path in (RUNTIME / "backends").rglob("*.py")
        if asking.search(path.read_text("utf-8"))
    ]
    return sorted({RUNTIME / "backends" / "tensorrt" / "api.py", *found})


def available() -> dict[str, Bindings]:
    tried = {version: attempt(version) for version in WHEELS}
    return {version: one for version, one in tried.items() if isinstance(one, Bindings)}


def attempt(version: str) -> Bindings | LookupError:
    try:
        return bindings(version)
    except LookupError as error:
        return error


@functools.cache
def reference() -> Api:
    """Every class and attribute that any version has; the newest version's signatures."""
    merged: Api = {}
    for one in available().values():
        for name, members in one.api.items():
            merged.setdefault(name, {}).update(members)
    return merged


@functools.cache
def found() -> Usage:
    api = reference()
    total = Usage()
    for path in sources():
        total |= usage(path, returns(), api)
    return total


def returns() -> dict[tuple[str, str], str]:
    """The class that each method returns; some signatures name it as C++ does."""
    api, found = reference(), {}
    for owner, members in api.items():
        for member, signatures in members.items():
            last = re.split(r"\.|::", signatures[0].rpartition(" -> ")[2])[-1] if signatures else ""
            names = [name for name in (last, last.removeprefix("I")) if name in api]
            if names:
                found[owner, member] = names[0]
    return found


@pytest.fixture(params=WHEELS)
def version(request: pytest.FixtureRequest) -> Bindings:
    return required(request.param)


def required(version: str) -> Bindings:
    one = attempt(version)
    if isinstance(one, LookupError):
        pytest.skip(str(one))
    return one


@pytest.fixture
def asked() -> Usage:
    if not available():
        pytest.skip("none of TensorRT's bindings can be had here")
    return found()


def has(api: Api, owner: str, attribute: str) -> bool:
    return attribute in api.get(owner, {})


def is_conditional(api: Api, asked: Usage, use: Use | Call) -> bool:
    """Whether the source uses it only where it is there, and in this version it is not."""
    key = (use.owner, use.attribute)
    if key in asked.guards or ("", use.owner) in asked.guards:
        return True
    if key in ONLY_WITH:
        return not has(api, *ONLY_WITH[key])
    return key in ONLY_WITHOUT and has(api, *ONLY_WITHOUT[key])


def test_every_attribute_is_there(version: Bindings, asked: Usage) -> None:
    missing = [
        str(use)
        for use in sorted(asked.uses, key=str)
        if not has(version.api, use.owner, use.attribute)
        and not is_conditional(version.api, asked, use)
    ]
    assert missing == []


def test_every_call_fits_a_signature(version: Bindings, asked: Usage) -> None:
    wrong = []
    for call in sorted(asked.calls, key=str):
        if is_conditional(version.api, asked, call) and not has(
            version.api, call.owner, call.attribute
        ):
            continue
        signatures = version.api[call.owner][call.attribute]
        if not any(fits(call, text) for text in signatures):
            wrong.append((call, signatures))
    assert wrong == []


def test_what_tensorrt_calls_takes_what_it_gives(version: Bindings, asked: Usage) -> None:
    assert {one.base for one in asked.overrides} == {"ILogger", "IProgressMonitor"}
    for one in asked.overrides:
        if one.base in version.api:
            (text,) = version.api[one.base][one.method]
            assert len(parameters(text)) == one.parameters, (one, text)


def test_every_guard_is_for_something_real(asked: Usage) -> None:
    if len(available()) < len(WHEELS):
        pytest.skip("needs every version")
    for owner, attribute in asked.guards:
        there = {name for name, one in available().items() if has(one.api, owner, attribute)}
        assert there, f"no version has {owner}.{attribute}"
        assert there != set(WHEELS), f"every version has {owner}.{attribute}: ask no more"


def test_our_logger_and_monitor_work_with_the_real_classes(version: Bindings) -> None:
    assert version.ours["is_logger"]
    assert version.ours["errors"] == ["INTERNAL_ERROR", "ERROR"]
    levels = [level for level, _ in version.ours["said"]]
    assert levels == ["ERROR", "ERROR", "WARNING", "INFO", "DEBUG"]
    assert version.ours["shares"] == ([0.5] if "IProgressMonitor" in version.api else [])


@pytest.mark.parametrize("wanted", WHEELS)
def test_the_version_is_read(wanted: str) -> None:
    told = required(wanted).ours["version"]
    assert ".".join(map(str, told[:3])) == wanted


def test_the_source_is_really_read(asked: Usage) -> None:
    uses = {(use.owner, use.attribute) for use in asked.uses}
    assert uses >= {
        ("", "Builder"),
        ("NetworkDefinitionCreationFlag", "STRONGLY_TYPED"),
        ("OnnxParser", "parse"),
        ("ParserError", "desc"),
        ("IBuilderConfig", "builder_optimization_level"),
        ("IOptimizationProfile", "set_shape"),
        ("ITensor", "is_shape_tensor"),
        ("ILayer", "set_output_type"),
        ("ITimingCache", "serialize"),
        ("Runtime", "deserialize_cuda_engine"),
        ("ICudaEngine", "get_tensor_name"),
        ("IExecutionContext", "execute_async_v3"),
        ("EngineInspector", "get_engine_information"),
        ("LayerInformationFormat", "JSON"),
        ("ILogger.Severity", "VERBOSE"),
    }


def test_nothing_of_tensorrt_escapes_the_reader(asked: Usage) -> None:
    """An attribute with a name of TensorRT's is known as such, or is common."""
    names = {name for members in reference().values() for name in members}
    names = {name for name in names if not name.startswith("_")}
    known = {use.attribute for use in asked.uses} | {name for _, name in asked.guards}
    assert (asked.attributes & names) - known <= COMMON


WRONG = """
from .tensorrt_api import load

class Thing:
    def __init__(self):
        self._trt, other = load(), 1
        builder = self._trt.Builder(None)
        self._network = builder.create_network(0)

    def run(self):
        names = [self._network.get_input(i).nickname for i in range(2)]
        self._trt.BuilderFlag.FP7
        layer = self._network.get_layer(0)
        layer.colour = 3
        self._network.get_output(0, 1)
        trt = self._trt

        class Monitor(trt.IProgressMonitor):
            def phase_start(self, phase_name):
                trt.Nothing()
"""


def test_the_reader_finds_what_is_not_there(asked: Usage, tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(WRONG)
    read = usage(tmp_path / "wrong.py", returns(), reference())
    missing = {
        (use.owner, use.attribute)
        for use in read.uses
        if not has(reference(), use.owner, use.attribute)
    }
    assert missing == {
        ("ITensor", "nickname"),
        ("BuilderFlag", "FP7"),
        ("ILayer", "colour"),
        ("", "Nothing"),
    }
    (call,) = (call for call in read.calls if call.attribute == "get_output")
    assert not any(fits(call, text) for text in reference()[call.owner][call.attribute])
    (override,) = read.overrides
    (text,) = reference()[override.base][override.method]
    assert len(parameters(text)) != override.parameters


def parameters(signature: str) -> list[str]:
    """Splits `f(self: A, x: Tuple[int, int], y: int = 0) -> B` into its parameters."""
    inner = signature[signature.index("(") + 1 : signature.rindex(") -> ")]
    parts, depth, start = [], 0, 0
    for position, letter in enumerate(inner):
        depth += (letter in "[(<") - (letter in "])>")
        if letter == "," and depth == 0:
            parts.append(inner[start:position].strip())
            start = position + 1
    return [part for part in (*parts, inner[start:].strip()) if part]


def fits(call: Call, signature: str) -> bool:
    known = [part for part in parameters(signature) if not part.startswith("self:")]
    if any(part.startswith("*") for part in known):
        return False  # the line above the overloads
    names = [part.partition(":")[0] for part in known]
    given = set(names[: call.positional]) | set(call.keywords)
    needed = {name for name, part in zip(names, known, strict=True) if "=" not in part}
    return (
        call.positional <= len(names)
        and not set(names[: call.positional]) & set(call.keywords)
        and needed <= given <= set(names)
    )


@pytest.mark.parametrize(
    ("positional", "keywords", "expected"),
    [
        (1, (), True),
        (2, (), True),
        (3, (), False),
        (0, (), False),
        (1, ("path",), True),
        (0, ("model", "path"), True),
        (1, ("model",), False),
        (1, ("other",), False),
    ],
)
def test_a_call_is_judged_rightly(
    positional: int, keywords: tuple[str, ...], expected: bool
) -> None:
    signature = "parse(self: a.OnnxParser, model: buffer, path: str = None) -> bool"
    assert fits(Call("OnnxParser", "parse", positional, keywords, ""), signature) == expected
