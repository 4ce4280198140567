"""Echoes over WebSocket at 127.0.0.1:PORT, and closes when told to."""

import asyncio
import sys

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


async def answer(socket):
    try:
        await echo(socket)
    except ConnectionClosed:
        pass


async def echo(socket):
    subject = socket.request.headers.get("X-Auth-Subject", "")
    await socket.send(f"hello {subject}")
    async for message in socket:
        if message == "close":
            await socket.close(4001, "as you wish")
        else:
            await socket.send(message)


async def main(port):
    async with serve(answer, "127.0.0.1", port, subprotocols=["echo.v1"], max_size=None):
        print("ready", flush=True)
        await asyncio.get_running_loop().create_future()


asyncio.run(main(int(sys.argv[1])))
