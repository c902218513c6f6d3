"""Evidence: images of inspections, kept within limits."""
