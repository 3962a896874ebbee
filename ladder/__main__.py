"""`python -m ladder` is the command `ladder`."""

from ladder.platform.command.main import main

if __name__ == "__main__":
    main()
