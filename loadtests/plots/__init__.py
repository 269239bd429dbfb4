"""Small SVG pictures of results. They have no background and grey ink, so they read on light and on dark pages."""
