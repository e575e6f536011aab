"""Tables, plots and statistics of runs."""
