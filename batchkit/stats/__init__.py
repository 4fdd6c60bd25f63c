"""Statistics of scores and labels: intervals, paired comparisons, agreement. Pure numbers."""
