"""Teaching from the page: collects pictures of good parts from a camera, trains a model on them.

STATE/teach/NAME/record.json      the data set's record; replaced as a whole
STATE/teach/NAME/pictures/*.png   whole frames, as the camera gave them
STATE/teach/NAME/report.html      the report of the last training
STATE/teach/NAME/job/             the files of a running training; deleted when it ends
"""
