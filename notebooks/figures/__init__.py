"""Figures that the chapters need and a user of the library does not.

A chapter is executed in its own folder, where it finds this package. A function takes
what its chapter passes and does not check it.
"""
