"""Compare the versions in use by answers, reviews, times and failures."""
