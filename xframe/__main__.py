"""``python -m xframe``."""

from xframe.cli import main

main()
