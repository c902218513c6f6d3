"""`differnet labels`: what people said about a station's verdicts, as a list or as a data set.

Imported on every start of `differnet`, so the work (`exporting`) is imported when it runs.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from ..command import Command, print_result
from ..text import table
from .arguments import add_json, existing, new_folder, text

if TYPE_CHECKING:
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
    add_json(parser)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Runs `differnet labels`."""
    from .exporting import export, picture_of, read_labels, state_of

    state = state_of(arguments.station)
    found = read_labels(state, arguments.camera)
    if arguments.action == "list":
        labels = [(one, picture_of(state, one.id) is not None) for one in found]
        none = "No labels yet: open a picture on the station's page, and say what the part is."
        print_result(
            [one.model_dump(mode="json") | {"picture": kept} for one, kept in labels],
            table([_row(one, kept=kept) for one, kept in labels]) or none,
            as_json=arguments.json,
        )
        return 0
    exported = export(state, found, arguments.output)
    kinds = ", ".join(f"{count} {kind}" for kind, count in exported.pictures.items())
    gone = f"Left out: {exported.gone} whose pictures are no longer kept.\n" * (exported.gone > 0)
    text = (
        f"{arguments.output}: {kinds}.\n{gone}Next: differnet eval MODEL --data {arguments.output}"
    )
    print_result(exported, text, as_json=arguments.json)
    return 0


def _row(one: Labelled, *, kept: bool) -> tuple[str, ...]:
    score = "no score" if one.score is None else f"score {one.score:.4g}"
    label = one.label if one.kind is None else f"{one.label} ({one.kind})"
    told = (label, "" if kept else "picture gone", " ".join((one.comment or "").split()))
    return (
        time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.at_s)),
        one.camera,
        one.part or "-",
        f"was {one.verdict}, {score}",
        "  ".join(filter(None, told)),
    )


COMMAND = Command(
    "labels",
    "list or export what people said of a station's verdicts",
    configure,
    run,
    extra="opencv-headless",
    modules=("cv2",),
)
