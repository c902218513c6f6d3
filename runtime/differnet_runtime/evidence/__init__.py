"""Pictures of what was judged, kept within caps."""
