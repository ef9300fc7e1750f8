"""From videos to crops, their features and a gallery; networks in files."""

from reidlib.deploy.detection import Detections, Detector, open_detector
from reidlib.deploy.embeddings import Embeddings, load_embeddings, save_embeddings
from reidlib.deploy.export import export_network
from reidlib.deploy.gallery import Gallery
from reidlib.deploy.index import write_index
from reidlib.deploy.naming import Question, naming_page, naming_questions
from reidlib.deploy.video import crop_people

__all__ = [
    "Detections",
    "Detector",
    "Embeddings",
    "Gallery",
    "Question",
    "crop_people",
    "export_network",
    "load_embeddings",
    "naming_page",
    "naming_questions",
    "open_detector",
    "save_embeddings",
    "write_index",
]
