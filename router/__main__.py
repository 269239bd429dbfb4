"""`python -m router` is the command `inference-router`."""

from router.cli import main

if __name__ == "__main__":
    main(prog_name="inference-router")
