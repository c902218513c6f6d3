"""The README's picture, from the demo's report.

python -m benchmarks.picture runs/demo/report.json
"""

from __future__ import annotations

import sys
from pathlib import Path

from differnet_training import charts
from differnet_training.results import Report

TARGET = Path(__file__).parents[1] / "docs" / "demo.svg"


def main() -> None:
    """Writes docs/demo.svg: a chart, no pixel of any picture, on white for dark pages."""
    report = Report.model_validate_json(Path(sys.argv[1]).read_bytes())
    svg = charts.histogram(report)
    start = svg.index(">") + 1
    TARGET.write_text(f'{svg[:start]}<rect width="100%" height="100%" fill="white"/>{svg[start:]}')
    print(f"wrote {TARGET}")


if __name__ == "__main__":
    main()
