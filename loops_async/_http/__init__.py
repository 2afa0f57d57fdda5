"""One request: build it, wait for a slot, send it, retry it, classify its failure."""
