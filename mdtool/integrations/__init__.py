"""What other programs call: thin, on what ``import mdtool`` gives."""
