"""What endpoints store for clients: whose each id is, which endpoint has it, and requests that go there alone."""
