"""Whether a picture file is all there, by its format's own structure.

Decoders give what they have: of a file that is still written, was cut by a lost connection or
was allocated before it was filled, OpenCV decodes some formats half empty and says nothing. JPEG
is in `differnet_runtime.jpeg`, where the decoder itself is strict.
"""

from .formats import fault_of

__all__ = ["fault_of"]
