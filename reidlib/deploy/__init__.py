"""From videos to crops of people, the step before re-identification in deployment."""

from reidlib.deploy.video import crop_people

__all__ = ["crop_people"]
