import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from differnet_runtime.cli import find_commands, main
from differnet_runtime.installation import install_line

PRELUDE = """
from differnet_runtime.command import Command
from differnet_runtime.errors import DataError
def configure(parser): parser.add_argument("--count", type=int, default=0)
"""

Register = Callable[..., None]


@pytest.fixture
def register(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Register:
    """Returns a function that installs a package with one command, as pip would."""

    def install(name: str, code: str, attribute: str = "COMMAND") -> None:
        module = f"plugin_{tmp_path.name}_{name}"
        (tmp_path / f"{module}.py").write_text(PRELUDE + code)
        info = tmp_path / f"{name}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        (info / "entry_points.txt").write_text(
            f"[differnet.commands]\n{name} = {module}:{attribute}\n"
        )
        monkeypatch.syspath_prepend(str(tmp_path))

    return install


def returning(code: str) -> str:
    return f"COMMAND = Command('x', 'does 100 % of x', configure, lambda arguments: {code})"


def raising(error: str) -> str:
    return f"def run(_): raise {error}\nCOMMAND = Command('x', 'does x', configure, run)"


def test_without_arguments_the_commands_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    for name in ("run", "info", "calibrate", "capture"):
        assert re.search(rf"^    {name}\b", shown, re.MULTILINE)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"]])
def test_help_and_version_end_well(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 0
    assert "differnet" in capsys.readouterr().out


def test_a_command_gets_its_arguments_and_gives_the_exit_code(register: Register) -> None:
    register("x", returning("arguments.count"))
    assert main(["x", "--count", "5"]) == 5
    assert main(["x"]) == 0


@pytest.mark.parametrize("arguments", [["nonsense"], ["x", "--count", "many"], ["x", "--nix"]])
def test_wrong_arguments_exit_with_2(
    register: Register, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    register("x", returning("0"))
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert arguments[-1] in capsys.readouterr().err


def test_a_user_error_is_its_message_and_exit_code_2(
    register: Register, capsys: pytest.CaptureFixture[str]
) -> None:
    register("x", raising("DataError('three pictures are missing')"))
    assert main(["x"]) == 2
    shown = capsys.readouterr()
    assert shown.err == "differnet: three pictures are missing\n"
    assert shown.out == ""


@pytest.mark.parametrize(
    "arguments", [["--debug", "x"], ["x", "--debug"], ["--debug", "x", "--debug"]]
)
def test_debug_adds_the_traceback(
    register: Register, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    register("x", raising("DataError('why')"))
    assert main(arguments) == 2
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert shown.endswith("differnet: why\n")


def test_a_bug_is_not_dressed_up_as_a_user_error(register: Register) -> None:
    register("x", raising("ZeroDivisionError('bug')"))
    with pytest.raises(ZeroDivisionError):
        main(["x"])


def test_an_interrupt_exits_with_130(
    register: Register, capsys: pytest.CaptureFixture[str]
) -> None:
    register("x", raising("KeyboardInterrupt"))
    assert main(["x"]) == 130
    assert capsys.readouterr().err == "differnet: interrupted\n"


MISSING = """
def run(_): raise AssertionError("ran without its modules")
COMMAND = Command("x", "does x", configure, run, extra="train", modules=("no_such_module",))
"""


def test_a_command_whose_extra_is_missing_is_listed_with_it(
    register: Register, capsys: pytest.CaptureFixture[str]
) -> None:
    register("x", MISSING)
    main([])
    shown = " ".join(capsys.readouterr().out.split())
    assert "does x (needs: [train])" in shown


@pytest.mark.parametrize("rest", [[], ["--count", "3"], ["positional", "--unknown=3"]])
def test_running_it_prints_the_remedy_and_exits_with_2(
    register: Register, rest: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    register("x", MISSING)
    assert main(["x", *rest]) == 2
    shown = capsys.readouterr().err
    assert "no_such_module" in shown
    assert f"Install it with `{install_line('train')}`." in shown


@pytest.mark.parametrize(
    ("code", "attribute", "cause"),
    [
        ("raise RuntimeError('100 % broken')", "COMMAND", "RuntimeError: 100 % broken"),
        ("import no_such_module", "COMMAND", "ModuleNotFoundError"),
        ("", "COMMAND", "AttributeError"),
        ("COMMAND = 'text'", "COMMAND", "is not a Command"),
        ("this is no Python", "COMMAND", "SyntaxError"),
    ],
)
def test_a_broken_command_is_listed_and_breaks_no_other(
    register: Register, code: str, attribute: str, cause: str, capsys: pytest.CaptureFixture[str]
) -> None:
    register("broken", code, attribute)
    register("x", returning("7"))
    assert main(["x"]) == 7
    assert main([]) == 0
    assert "can't be loaded" in capsys.readouterr().out
    assert main(["broken", "anything"]) == 2
    assert cause in capsys.readouterr().err


def test_the_commands_of_this_package_can_be_loaded() -> None:
    commands = find_commands()
    for name in ("run", "info", "calibrate", "capture"):
        assert commands[name].name == name
        assert not commands[name].summary.startswith("can't be loaded")


@pytest.mark.parametrize("argv", [[], ["--help", "info"], ["-h", "info"], ["unknown"]])
def test_all_commands_are_loaded_where_none_is_run(argv: list[str]) -> None:
    assert list(find_commands(argv)) == list(find_commands())


def test_only_the_command_that_is_run_is_loaded() -> None:
    assert list(find_commands(["--debug", "info", "--help"])) == ["info"]


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    """As in `differnet run ... | head -1`."""
    code = (
        "import os, sys\n"
        "from differnet_runtime import cli\n"
        "from differnet_runtime.command import Command\n"
        "def run(_):\n"
        "    for _ in range(100000): print('line')\n"
        "    return 0\n"
        "command = Command('x', 'x', lambda _: None, run)\n"
        "cli.find_commands = lambda _: {'x': command}\n"
        "reader, writer = os.pipe(); os.close(reader); os.dup2(writer, 1)\n"
        "sys.exit(cli.main(['x']))\n"
    )
    result = python(code)
    assert result.returncode == 141
    assert result.stderr == ""


def test_names_that_are_no_text_can_be_printed() -> None:
    code = (
        "import sys\n"
        "from differnet_runtime import cli\n"
        "from differnet_runtime.command import Command\n"
        "command = Command('x', 'x', lambda _: None, lambda _: print('part\\udcff.png') or 0)\n"
        "cli.find_commands = lambda _: {'x': command}\n"
        "sys.exit(cli.main(['x']))\n"
    )
    result = python(code)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "part\\udcff.png\n"


LIGHT = """
import importlib, importlib.util, sys, types
package = types.ModuleType("differnet_runtime")  # its own __init__ is another matter
package.__path__ = importlib.util.find_spec("differnet_runtime").submodule_search_locations
sys.modules["differnet_runtime"] = package
for name in ("cli", "commands.run", "commands.info", "commands.calibrate", "commands.capture"):
    importlib.import_module("differnet_runtime." + name)
heavy = {"numpy", "cv2", "onnxruntime", "pydantic", "tqdm", "torch", "onnx"}
print(sorted(heavy & set(sys.modules)))
"""


def test_command_modules_import_nothing_heavy() -> None:
    """They are imported on every start of `differnet`."""
    result = python(LIGHT)
    assert result.stdout == "[]\n", result.stderr
