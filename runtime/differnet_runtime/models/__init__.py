"""The models on a device: kept by hash, checked before they judge, and taken back in one step."""
