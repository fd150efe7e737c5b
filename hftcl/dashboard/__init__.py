"""The live local page: what serves and why, what was judged, what the bot does. Reads, and never writes.

What it shows are the reports and the words of the commands; it computes no figure of its own.
"""
