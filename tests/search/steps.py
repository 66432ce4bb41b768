"""Single steps of a world, from a saved state."""

from tests.search.canon import Canon
from tests.search.judge import Broken
from tests.search.scene import Option, Scene
from tests.search.states import Saved, States
from tests.search.world import SearchWorld


class Steps:
    """The world of a scene, made to go from any of its states.

    Args:
        scene: the world's.

    Attributes:
        world: it, in the state in which the last step has left it.
        canon: of this search.
        states: of this search.
        count: steps so far.
        bad: the law that the last step has broken, until it is taken away.
    """

    def __init__(self, scene: Scene) -> None:
        self.world = SearchWorld(scene)
        self.canon = Canon(places=scene.budget.unreceived > 0)
        self.states = States(self.world, self.canon)
        self.count = 0
        self.bad: str | None = None

    def take(self, saved: Saved, option: Option) -> bool:
        """Let something happen in a state; whether it could. A law that it breaks is kept in `bad`."""
        self.states.load(saved)
        return self.go_on(option)

    def go_on(self, option: Option) -> bool:
        """The same in the state that the world is in."""
        self.count += 1
        try:
            return self.world.take(option)
        except Broken as e:
            self.bad = str(e)
            return True

    def well(self, saved: Saved, *options: Option) -> bool:
        """Let these happen one after the other; whether all could, and no law was broken."""
        self.states.load(saved)
        return all(self.go_on(option) and self.forgive() for option in options)

    def forgive(self) -> bool:
        """Forget what the last step has broken; whether there was nothing."""
        bad, self.bad = self.bad, None
        return bad is None


__all__ = ["Steps"]
