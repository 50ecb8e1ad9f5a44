"""Benchmarks are run by hand: pytest shall not collect them, nor look into them for doctests."""

collect_ignore_glob = ["*.py"]
