"""Learning from good parts: data, frozen extractor, normalizing flow, calibration, evaluation."""
