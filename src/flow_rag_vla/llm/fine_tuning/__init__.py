"""From conversations to a language model of one's own: prepare, train an adapter, merge, compare, register."""
