"""What the router is measured beside: nginx at its cheapest, and a gateway as one writes it in an afternoon."""
