"""The resources of the API, and creates that never leak."""
