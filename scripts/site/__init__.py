"""What the site of the docs is made of beside its pages."""
