"""Fill an installation with made-up shops, so that every page shows something at the first look."""
