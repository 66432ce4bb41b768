"""A process on a channel, to be killed: `python -m tests.engine.member HUB NODE LISTENER WORD`.

It says WORD on the channel as soon as it is on it, prints "joined", and then hears without end.
"""

import asyncio
import sys

from libo2cb.engine.port import ChannelEvent, ChannelMembers
from libo2cb.engine.sandbox import SandboxChannel


async def hear(hub: str, node: str, listener: str, word: str) -> None:
    channel = SandboxChannel(hub, node, listener)

    def sink(event: ChannelEvent) -> None:
        if isinstance(event, ChannelMembers) and event.joined:
            channel.send(word.encode())
            print("joined", flush=True)

    await channel.start(sink)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(hear(*sys.argv[1:5]))
