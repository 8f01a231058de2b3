"""The domain: what a run is and how it may move. Read lifecycle, then model, then moves."""
