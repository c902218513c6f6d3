"""From a picture to a verdict: preprocessing, checks of the picture, calibration, decision."""
