"""Begins the process in which an adapter runs by itself (`xframe.isolation`).

It is started with ``-I``, so that Python takes nothing from the folder it stands in, and with the list of the folders that
modules may come from. xframe itself is the one that this file is of.
"""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from json import loads
from pathlib import Path

sys.path[:] = loads(sys.argv[1])
found = spec_from_file_location("xframe", Path(__file__).with_name("__init__.py"))
assert found is not None
assert found.loader is not None
package = sys.modules["xframe"] = module_from_spec(found)
found.loader.exec_module(package)

from xframe.isolation import serve  # noqa: E402 - only now it is known where xframe is

serve()
