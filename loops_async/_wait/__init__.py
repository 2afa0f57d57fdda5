"""One poll for all waits."""
