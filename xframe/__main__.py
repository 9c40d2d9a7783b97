"""``python -m xframe``."""

from xframe.cli import main

if __name__ == "__main__":
    main()
