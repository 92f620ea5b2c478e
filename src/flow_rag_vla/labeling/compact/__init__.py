"""The shipped detector and segmenter: its network, its data from the simulator, its training, its loading."""
