"""The two classes of the Python API."""
