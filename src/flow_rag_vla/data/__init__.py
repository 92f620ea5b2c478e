"""Episodes, demonstrations and bags on disk: written whole, read back typed."""
