"""The whole paper in one command: its statements and figures, each tried out, on one page."""
