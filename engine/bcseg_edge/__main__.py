"""`python -m bcseg_edge`: the command line without an installed script."""

from bcseg_edge.cli import main

if __name__ == "__main__":
    main()
