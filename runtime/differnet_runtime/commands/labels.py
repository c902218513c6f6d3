"""`differnet labels`: what people said of a station's verdicts, as a list or as a data set."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..command import Command
from .arguments import existing, new_folder, text

if TYPE_CHECKING:
    from pathlib import Path

    from ..labels import Labelled


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `differnet labels`."""
    parser.description = (
        "Lists what people said of a station's verdicts on its page, or exports the labelled "
        "pictures as a data set that `differnet train` and `differnet eval` take as it is: good/, "
        "a folder for each kind of defect, and capture.json with the model's region. The station "
        "may be running meanwhile."
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _action(actions, "list", "show all labels, the latest first")
    export = _action(actions, "export", "write the labelled pictures into a new folder")
    export.add_argument(
        "-o",
        "--output",
        type=new_folder,
        required=True,
        metavar="FOLDER",
        help="of the data set: new, or empty",
    )


def _action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser], name: str, summary: str
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=summary, description=f"Will {summary}.")
    parser.add_argument(
        "station",
        type=existing,
        metavar="STATION",
        help="the station's configuration (line.toml), or its state folder",
    )
    parser.add_argument("--camera", type=text, metavar="NAME", help="only of this camera")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Runs `differnet labels`."""
    from .stored import export, read_labels, state_of

    state = state_of(arguments.station)
    found = read_labels(state, arguments.camera)
    if arguments.action == "list":
        _list(state, found, as_json=arguments.json)
        return 0
    exported = export(state, found, arguments.output)
    if arguments.json:
        print(exported.model_dump_json(indent=2))
        return 0
    kinds = ", ".join(f"{count} {kind}" for kind, count in exported.pictures.items())
    print(f"{arguments.output}: {kinds}.")
    if exported.gone:
        print(f"Left out: {exported.gone} whose pictures are no longer kept.")
    print(f"Next: differnet eval MODEL --data {arguments.output}")
    return 0


def _list(state: Path, found: list[Labelled], *, as_json: bool) -> None:
    import json

    from .stored import picture_of

    if as_json:
        rows = [
            {**one.model_dump(mode="json"), "picture": picture_of(state, one.id) is not None}
            for one in found
        ]
        print(json.dumps(rows, indent=2))
        return
    if not found:
        print("No labels yet: open a picture on the station's page, and say what the part is.")
    for one in found:
        print(_line(one, kept=picture_of(state, one.id) is not None))


def _line(one: Labelled, *, kept: bool) -> str:
    import time

    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.at_s))
    label = one.label if one.kind is None else f"{one.label} ({one.kind})"
    score = "no score" if one.score is None else f"score {one.score:.4g}"
    comment = " ".join((one.comment or "").split())
    told = ("" if kept else "  picture gone") + (f"  {comment}" if comment else "")
    return f"{at}  {one.camera}  {one.part or '-'}  was {one.verdict}, {score}  {label}{told}"


COMMAND = Command(
    "labels",
    "list or export what people said of a station's verdicts",
    configure,
    run,
    extra="opencv-headless",
    modules=("cv2",),
)
