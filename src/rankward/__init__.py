"""Rankward: what does gradient descent prefer when nothing tells it what to prefer?"""

__version__ = "0.1.0"
