"""`differnet check`: reads a station's configuration and says what is wrong with it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..command import Command
from ..errors import ConfigError
from .arguments import any_path, seconds

if TYPE_CHECKING:
    from .checking import Checked


WRONG = 2
_CAMERAS_S = 10.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `differnet check`."""
    parser.description = (
        "Reads line3.toml and line3.d/*.toml as `differnet run --config` would, and looks at what "
        "they name: the model, secrets, folders, ports and packages. Nothing is changed, and no "
        "camera is opened without --cameras. Run it as the user that the station runs as."
    )
    parser.epilog = (
        "Exit code 0: the station can start. 2: it can't; the lines marked WRONG say why."
    )
    parser.add_argument(
        "config", type=any_path, nargs="?", metavar="CONFIG", help="the station's TOML"
    )
    parser.add_argument(
        "--cameras", action="store_true", help="also take one frame of every camera"
    )
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=_CAMERAS_S,
        metavar="S",
        help=f"how long a camera may take for its frame; {_CAMERAS_S:g}",
    )
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="print the findings as JSON")
    shown.add_argument(
        "--show",
        choices=("toml", "json"),
        nargs="?",
        const="toml",
        help="print the configuration in effect instead, without passwords",
    )
    shown.add_argument(
        "--schema", action="store_true", help="print the JSON Schema of the configuration instead"
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs `differnet check`."""
    import json

    if arguments.schema:
        from ..config import schema

        print(json.dumps(schema(), indent=1))
        return 0
    if arguments.config is None:
        raise ConfigError("give the station's configuration: differnet check line3.toml")
    if arguments.show:
        return _show(arguments.config, arguments.show)
    checked = _check(arguments)
    print(json.dumps(checked.as_record(), indent=2) if arguments.json else checked.as_text())
    return 0 if checked.fit else WRONG


def _show(path: Path, form: str) -> int:
    import json

    from ..config import load_config
    from ..config.grammar import redact
    from .checking import as_toml, effective

    tables = effective(load_config(path).config, redact)
    print(json.dumps(tables, indent=2) if form == "json" else as_toml(tables), end="")
    if form == "json":
        print()
    return 0


def _check(arguments: argparse.Namespace) -> Checked:
    from ..config import load_config
    from .checking import Checked, examine, first_frames
    from .checking_models import CheckFinding, files

    try:
        loaded = load_config(arguments.config)
    except ConfigError as error:
        lines = str(error).splitlines()
        return Checked((), tuple(CheckFinding("configuration", "wrong", line) for line in lines))
    checked = examine(loaded)
    if arguments.cameras:
        models = {camera: metadata for camera, (_, metadata) in files(loaded.config).items()}
        found = first_frames(loaded.config.camera, arguments.timeout, models)
        checked = Checked(checked.files, (*checked.findings, *found))
    return checked


COMMAND = Command(
    "check",
    "say what is wrong with a station's configuration",
    configure,
    run,
    extra="opencv-headless",
    modules=("cv2",),
)
