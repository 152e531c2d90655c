"""How other libraries' things plug in."""
