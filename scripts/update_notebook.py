"""Run the notebook of the examples in Jupyter, and keep what its cells print.

python scripts/update_notebook.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

NOTEBOOK = Path(__file__).resolve().parent.parent / "examples" / "from_120_to_a_proven_transfer.ipynb"


def executed(notebook: NotebookNode) -> NotebookNode:
    """The notebook with fresh outputs, run in an empty folder; a cell that fails is an error."""
    with tempfile.TemporaryDirectory() as folder:
        # Without times, which would be new each time, and with what a cell prints in one piece.
        settings = {"timeout": 300, "record_timing": False, "coalesce_streams": True}
        return NotebookClient(notebook, resources={"metadata": {"path": folder}}, **settings).execute()


def printed(cell: NotebookNode) -> str:
    """What a cell puts on standard output. On the other one, frameworks tell of the machine."""
    return "".join(one["text"] for one in cell.get("outputs", ()) if one.get("name") == "stdout")


if __name__ == "__main__":
    done = executed(nbformat.read(NOTEBOOK, as_version=4))
    for cell in done.cells:
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
    done.metadata.pop("language_info")  # of the Python that ran it
    nbformat.write(done, NOTEBOOK)
