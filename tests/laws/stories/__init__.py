"""Stories for the judges: each law has some that break it, and there are some that keep all."""

from tests.laws.stories import clients, life, ordering, recovery, safety
from tests.laws.stories.cluster import Story, Telling
from tests.laws.stories.kept import KEEPS

BREAKS: dict[int, tuple[Telling, ...]] = {
    **ordering.BREAKS,
    **recovery.BREAKS,
    **safety.BREAKS,
    **clients.BREAKS,
    **life.BREAKS,
}
"""By law: stories that break it."""

__all__ = ["BREAKS", "KEEPS", "Story", "Telling"]
