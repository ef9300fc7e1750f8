"""Person re-identification, taught and implemented.

Sub-packages, from the lowest level: ``data`` and ``synthcity`` provide images with
identities and cameras; ``models``, ``neighbors``, ``clustering``, ``labels``,
``losses`` and ``evaluation`` are the building blocks; ``engine`` runs, records and
resumes the training; ``recipes`` are the methods, one file each.
"""

__version__ = "0.1.0"
