"""A page to look at a labelling run in a browser: `page.write_gallery`."""
