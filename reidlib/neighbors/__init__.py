"""Neighbours: exact search."""

from reidlib.neighbors.search import nearest_neighbors

__all__ = ["nearest_neighbors"]
