"""The benchmark suite of fastpool: `python -m bench` or `make bench`. See README.md beside this."""
