"""Two stores at once: `pair.py` is the backend, the other files are what it stands on."""
