"""Which stages run, in which order, with what settings; evaluation and summaries of a run."""
