"""Many samplers in one block, none left behind."""
