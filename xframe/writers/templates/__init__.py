"""The code that a written model.py may hold: real modules, of which a writer copies the definitions that a model needs.

Nothing here imports xframe. The definitions are copied by name with all that they use, see `xframe.writers._source`.
"""
