"""Pictures of what was judged, kept within caps."""

from .records import EvidenceItem, EvidenceStatus, Kind
from .store import Evidence

__all__ = ["Evidence", "EvidenceItem", "EvidenceStatus", "Kind"]
