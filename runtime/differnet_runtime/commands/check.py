"""`differnet check`: reads a station's configuration and says what is wrong with it.

Imported on every start of `differnet`, so the work (`checking`) is imported when it runs.
"""

from __future__ import annotations

import argparse
from typing import Any

from ..command import Command, print_json, print_result
from ..errors import ConfigError
from .arguments import add_json, any_path, seconds

WRONG = 2
"""Exit code if the station can't start."""
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
    add_json(shown, "the findings")
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
    from ..config import load_config, schema

    if arguments.schema:
        print_json(schema(), indent=1)
        return 0
    if arguments.config is None:
        raise ConfigError("give the station's configuration: differnet check line3.toml")
    from .checking import check, effective

    if arguments.show:
        show = print_json if arguments.show == "json" else _print_toml
        show(effective(load_config(arguments.config).config))
        return 0
    checked = check(arguments.config, cameras_s=arguments.timeout if arguments.cameras else None)
    print_result(checked.as_record(), checked.as_text(), as_json=arguments.json)
    return 0 if checked.fit else WRONG


def _print_toml(tables: dict[str, Any]) -> None:
    import tomli_w

    print(tomli_w.dumps(tables), end="")


COMMAND = Command(
    "check",
    "say what is wrong with a station's configuration",
    configure,
    run,
    extra="opencv-headless",
    modules=("cv2",),
)
