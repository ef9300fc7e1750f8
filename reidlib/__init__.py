"""Person re-identification, taught and implemented.

Sub-packages, from the ground up: ``data`` and ``synthcity`` give images with
identities and cameras; ``models``, ``neighbors``, ``clustering``, ``labels``,
``losses`` and ``evaluation`` are the building blocks; ``engine`` keeps a run alive and
written down; ``recipes`` are the methods themselves, one readable file each.
"""

__version__ = "0.1.0"
