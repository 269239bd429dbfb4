"""How fast a deployment answers, as one sweep after the other has seen it."""


class Pace:
    """Tells an answer that came from an average that merely stands, and a run of slow ones from a single one."""

    __slots__ = ("changed_at", "first_byte_s", "over")

    def __init__(self) -> None:
        self.first_byte_s = 0.0  # the average at the last look; 0: unknown
        self.changed_at = 0.0  # monotonic seconds of the look that saw it change
        self.over = 0  # looks in a row that saw it change and be too slow

    def look(self, first_byte_s: float, now: float) -> bool:
        """Takes the average of now; returns whether an answer came since the last look."""
        if first_byte_s == self.first_byte_s:
            return False
        self.first_byte_s = first_byte_s
        if first_byte_s <= 0.0:  # forgotten, which is no answer
            return False
        self.changed_at = now
        return True

    def forget(self) -> None:
        self.over = 0
