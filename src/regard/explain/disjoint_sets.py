"""Disjoint sets: which nodes of a graph are connected."""


class DisjointSets:
    """A partition of the numbers 0 to `count` - 1. At first, each number is a set of its own."""

    def __init__(self, count: int) -> None:
        self.parent = list(range(count))

    def find(self, member: int) -> int:
        """Return the smallest member of the set that contains `member`."""
        while self.parent[member] != member:
            member = self.parent[member]
        return member

    def join(self, one: int, other: int) -> bool:
        """Merge the sets of two members. Return False if they were in one set already."""
        first, second = sorted((self.find(one), self.find(other)))
        self.parent[second] = first
        return first != second
