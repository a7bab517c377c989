"""Schedule: which view of each object an epoch shows, and which shards have to be fitted for it.

A shard is one view of one block of objects. Shape letters: B blocks, V stored views of each object.
"""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass

Shard = tuple[int, int]
"""A view, and the number of a block of objects in the set."""


@dataclass(frozen=True)
class FreshSchedule:
    """An epoch shows one view of each object. Fresh shards come in one order, view by view and block by block, the first
    with view V; in epoch e the first e * B / reuse of them have come, or those of `arrived`.

    Of a block, an epoch shows its newest view, the next epoch the one before, and so on over `pool` views, until the
    next one comes. So each fresh INR is shown `reuse` times, with others of its object in between; the first ones are
    shown more often, until the pool is full. All of this depends on these numbers and the epoch alone.

    Args:
        stored: V.
        blocks: The rising numbers of the B blocks.
        pool: How many views of a block take turns.
        reuse: How often a fresh INR is shown; None where `arrived` says what has come.
        arrived: How many fresh shards have come in each epoch up to the present one.
    """

    stored: int
    blocks: tuple[int, ...]
    pool: int
    reuse: int | None = None
    arrived: tuple[int, ...] = ()

    def come(self, epoch: int) -> int:
        """How many fresh shards have come."""
        if self.reuse is None:
            return self.arrived[min(epoch, len(self.arrived) - 1)] if self.arrived else 0
        return epoch * len(self.blocks) // self.reuse

    def shard(self, number: int) -> Shard:
        """The fresh shard of this number."""
        generation, place = divmod(number, len(self.blocks))
        return self.stored + generation, self.blocks[place]

    def shown(self, epoch: int) -> list[Shard]:
        """The shards of an epoch, one for each block."""
        shards = []
        for place, block in enumerate(self.blocks):
            newest, age = self._newest(place, epoch)
            shards.append((newest - age % min(self.pool, newest + 1), block))
        return shards

    def needed(self, epoch: int, ahead: int) -> list[Shard]:
        """The fresh shards of an epoch, then those of `ahead` epochs after it and the next one. Where it is not known how
        many will come, as many as those epochs could show at most."""
        known = ahead if self.reuse is not None else 0
        shown = [shard for each in range(epoch, epoch + known + 1) for shard in self.shown(each)]
        first, last = self.come(epoch), self.come(epoch + ahead) + 1
        last = last if self.reuse is not None else first + ahead * len(self.blocks)
        shards = [*shown, *map(self.shard, range(first, last))]
        return list(dict.fromkeys(shard for shard in shards if shard[0] >= self.stored))

    def is_done(self, shard: Shard, epoch: int) -> bool:
        """Whether no epoch from this one on shows a fresh shard."""
        view, block = shard
        place = bisect_left(self.blocks, block)
        known = place < len(self.blocks) and self.blocks[place] == block
        return not known or view <= self._newest(place, epoch)[0] - self.pool

    def _newest(self, place: int, epoch: int) -> tuple[int, int]:
        """The newest view of a block, and how many epochs ago it came."""
        count = len(self.blocks)
        fresh = max(0, -((place - self.come(epoch)) // count))
        last = (fresh - 1) * count + place
        came = bisect_right(range(epoch + 1), last, key=self.come) if fresh else 0
        return self.stored - 1 + fresh, epoch - came
