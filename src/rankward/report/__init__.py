"""HTML pages in one file each, which need no network: the report of a sweep, and parts that the paper's page shares."""
