"""The unattended station: cameras, engine, verdicts, results, for months."""
