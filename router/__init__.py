"""An inference request router: OpenAI-style traffic to the clouds its contract allows."""
