"""The results as WAV: the samples of a FLAC, decoded by libsndfile while they are read."""
