"""How values that JSON cannot carry travel through plans: as bytes in the store, with a description of them in their place.

A codec makes bytes and a description of a value, and the value of the bytes. `codec.py` has codecs, their table and `@codec`; `demands.py` what an
annotation may demand of a frame or an array; `frames.py` (Arrow) and `arrays.py` (numpy) know the libraries, and are loaded when an annotation names
one of their types; `typed.py` puts codecs into pydantic's schemas. The folder knows no tool, no run and no store. Begin with `codec.py`.
"""
