"""Browser pages of a labelling run: a gallery of its images (`gallery.write_gallery`) and search results."""
