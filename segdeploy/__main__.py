"""`python -m segdeploy` is `segdeploy`."""

from segdeploy.cli import main

if __name__ == "__main__":
    main()
