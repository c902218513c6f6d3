"""The models on a device: kept by hash, checked before they judge, and taken back in one step."""

from .cards import Card, advice, card_of
from .records import Change, StoredModel
from .store import FOLDER_VARIABLE, ModelStore, default_folder

__all__ = [
    "FOLDER_VARIABLE",
    "Card",
    "Change",
    "ModelStore",
    "StoredModel",
    "advice",
    "card_of",
    "default_folder",
]
