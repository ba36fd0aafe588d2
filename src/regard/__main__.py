"""`python -m regard`, where the command `regard` is not on the path."""

from regard.cli import main

if __name__ == "__main__":
    main()
