"""Teaching from the page: good parts are collected from a camera, and a model is trained of them.

STATE/teach/NAME/record.json      what is known of a data set; replaced whole
STATE/teach/NAME/pictures/*.png   whole frames, as the camera gave them
STATE/teach/NAME/report.html      of the last training
STATE/teach/NAME/job/             of a training that goes on; gone when it ends
"""

from .datasets import UnknownError
from .files import FOLDER
from .records import AddedModel, Picture, Record, Training
from .site import Site
from .teaching import Teaching
from .views import DatasetView, PictureView, TeachView, TrainingView

__all__ = [
    "FOLDER",
    "AddedModel",
    "DatasetView",
    "Picture",
    "PictureView",
    "Record",
    "Site",
    "TeachView",
    "Teaching",
    "Training",
    "TrainingView",
    "UnknownError",
]
