"""The machine description: the tree, its YAML, and what is true of buses, properties and drivers whoever asks."""
