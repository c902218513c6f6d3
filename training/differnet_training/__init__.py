"""Learning from good parts: data, frozen extractor, normalizing flow, calibration, evaluation."""

import os

# Read once, when torch loads OpenMP: idle threads sleep instead of spinning. Beside another busy
# process on two cores, spinning threads make feature extraction many times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
