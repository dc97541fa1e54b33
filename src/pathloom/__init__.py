"""Pathloom schedules paths: who goes where, through what, and when, on a network of limited resources."""

__version__ = "0.1.0"
