"""A small English-Korean sample world, written for this project: everything runs offline."""
