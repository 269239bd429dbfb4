"""The frozen values that every room shares. No behaviour beyond what a value knows of itself."""
