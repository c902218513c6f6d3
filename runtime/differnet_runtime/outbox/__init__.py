"""Events that outlive everything: written down before they are sent, kept until they are taken."""

from ..sinks import Stored
from .delivery import Delivery
from .outbox import Outbox
from .part_log import PartLog
from .picture_log import PictureLog
from .records import DeliveryStatus, Entry, JudgedPicture, OutboxStatus
from .tally import Count, Tally

__all__ = [
    "Count",
    "Delivery",
    "DeliveryStatus",
    "Entry",
    "JudgedPicture",
    "Outbox",
    "OutboxStatus",
    "PartLog",
    "PictureLog",
    "Stored",
    "Tally",
]
