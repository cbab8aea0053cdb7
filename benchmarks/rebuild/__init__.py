"""How much of a build an image of the configured host saves."""
