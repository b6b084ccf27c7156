"""Files and folders written whole, settings beside results, what is kept between runs."""
