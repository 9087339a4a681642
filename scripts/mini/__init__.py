"""Makes the text of the miniatures, performs them, and writes docs/reproduction.md."""
