"""Sessions over WebSocket: opened, placed and limited like requests, relayed message by message, billed by response."""
