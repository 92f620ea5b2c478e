"""One module a format: how a dataset is written in it, and how one is read that anybody wrote."""
