"""One class per resource of the API: path, arguments, model returned."""
