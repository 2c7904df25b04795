"""A trained model as something that acts."""
