"""What is written down of a run: its header, its events in a chain, and how they are read back."""
