"""Training texts of everyday product titles, generated from a lexicon of nouns that was written for this project."""
