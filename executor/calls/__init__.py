"""How a call is made: bound and named, looked up, placed, called, and what it leaves for later ones."""
