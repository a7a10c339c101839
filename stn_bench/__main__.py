"""`python -m stn_bench` is `stn-bench`."""

from stn_bench.cli import main

if __name__ == "__main__":
    main()
