"""Pages to look at in a browser, each one file that needs no network: the report of a sweep, and the paper."""
