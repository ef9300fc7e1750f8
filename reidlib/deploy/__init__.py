"""From cameras to images of people: what stands before re-identification in use."""

from reidlib.deploy.video import crop_people

__all__ = ["crop_people"]
