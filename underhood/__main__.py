"""`python -m underhood` is the command, where its folder is not on the path."""

from underhood.faces.cli import main

if __name__ == "__main__":
    main(prog_name="underhood")
