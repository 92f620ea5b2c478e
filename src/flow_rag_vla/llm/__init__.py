"""Words in, validated structures out: providers behind one protocol, structured answers, text embeddings, knowledge."""
