"""For people: the `sam3` command, the local cloud, the training of the embedded model."""
