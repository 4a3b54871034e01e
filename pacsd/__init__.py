"""pacsd: the picture archiving and communication system of a hospital."""

__version__ = "0.1.0"
