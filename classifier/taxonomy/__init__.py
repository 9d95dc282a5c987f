"""The categories that sellers choose from: finding them, and the words that lead to them."""
