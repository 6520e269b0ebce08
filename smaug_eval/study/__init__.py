"""A study: arms that are trained on several pair sets with several seeds, and the questions put to them."""
