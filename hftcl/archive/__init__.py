"""THE MODELS: the file of a model, and the registry that knows every one of them."""
