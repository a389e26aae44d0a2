"""Reports of adverse drug events, as the openFDA API gives them."""
