"""Reads what an answer says of itself: its tokens, and whether its stream has begun, failed or ended well.

Decides nothing about retries and knows no provider: dialects name what they send, this room only looks.
"""
