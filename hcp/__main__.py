"""`python -m hcp` is `hcp`: how one process starts another without a PATH."""

from hcp.cli import main

if __name__ == "__main__":
    main()
