"""What people say of the station's verdicts: labels, and thresholds that were set here."""

from .book import FILE, Book
from .records import Label, Labelled, ThresholdChange
from .store import Labels
from .summary import Summary, misses, summary
from .thresholds import Thresholds, changed

__all__ = [
    "FILE",
    "Book",
    "Label",
    "Labelled",
    "Labels",
    "Summary",
    "ThresholdChange",
    "Thresholds",
    "changed",
    "misses",
    "summary",
]
