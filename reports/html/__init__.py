"""Build the HTML of the page: ids, filters and the script."""
