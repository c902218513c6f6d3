"""The models on a device: kept by hash, checked before they judge, and taken back in one step."""

from .records import Change, StoredModel
from .store import FOLDER_VARIABLE, ModelStore, default_folder

__all__ = ["FOLDER_VARIABLE", "Change", "ModelStore", "StoredModel", "default_folder"]
