"""Is this picture to be trusted? Asked before it is scored."""
