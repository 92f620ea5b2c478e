"""Language models over HTTP: questions in, validated structures out."""
