"""The README's picture and figures, from the demo's report.

python -m benchmarks.demo_figures runs/demo/report.json
"""

from __future__ import annotations

import sys
from pathlib import Path

from differnet_training import page
from differnet_training.results import Report

from . import machine

PICTURE = Path(__file__).parents[1] / "docs" / "demo.svg"


def main() -> None:
    """Writes docs/demo.svg (a chart, no pixel of any picture) and results/demo.json."""
    report = Report.model_validate_json(Path(sys.argv[1]).read_bytes())
    svg = page.histogram(report)
    start = svg.index(">") + 1  # on white, for dark pages
    PICTURE.write_text(f'{svg[:start]}<rect width="100%" height="100%" fill="white"/>{svg[start:]}')
    head = {"good", "defect", "image_auroc", "false_reject", "miss", "latency_ms", "calibration"}
    machine.write("demo", report.model_dump(mode="json", include=head))


if __name__ == "__main__":
    main()
