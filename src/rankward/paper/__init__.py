"""The paper in one command: its statements and figures, each tested, on one page."""
