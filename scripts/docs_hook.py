"""What the documentation site has besides its pages: the JSON Schema of reports, as a file to link to and to fetch."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from xframe.report import schema

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files


def on_files(files: Files, config: MkDocsConfig) -> Files:
    from mkdocs.structure.files import File

    content = json.dumps(schema(), indent=2) + "\n"
    files.append(File.generated(config, "reference/schema.json", content=content))
    return files
