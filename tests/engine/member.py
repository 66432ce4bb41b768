"""A process on a channel, to be killed: `python -m tests.engine.member ENGINE [HUB NODE] LISTENER WORD`.

ENGINE is sandbox, with its hub and the node's name, or corosync, that of the machine it runs on. It says WORD on the
channel as soon as it is on it, prints "joined", and then hears without end.
"""

import asyncio
import sys

from libo2cb.engine.corosync.channel import CorosyncChannel
from libo2cb.engine.port import ChannelEvent, ChannelMembers, ChannelPort
from libo2cb.engine.sandbox import SandboxChannel


async def hear(channel: ChannelPort, word: str) -> None:
    def sink(event: ChannelEvent) -> None:
        if isinstance(event, ChannelMembers) and event.joined:
            channel.send(word.encode())
            print("joined", flush=True)

    await channel.start(sink)
    await asyncio.Event().wait()


def main(engine: str, *arguments: str) -> None:
    *where, listener, word = arguments
    channel = SandboxChannel(where[0], where[1], listener) if engine == "sandbox" else CorosyncChannel(listener)
    asyncio.run(hear(channel, word))


if __name__ == "__main__":
    main(*sys.argv[1:])
