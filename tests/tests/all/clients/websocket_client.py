"""Talks to the WebSocket server through the edge at ADDRESS, and prints what it saw as JSON."""

import asyncio
import json
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus


def dial(address, authority, token):
    return connect(
        "wss://localhost:8443/ws/x?y=z",
        host=address,
        ssl=ssl.create_default_context(cafile=authority),
        additional_headers={"Authorization": f"Bearer {token}"} if token else {},
        subprotocols=["other", "echo.v1"],
        max_size=None,
    )


async def echoes(socket, message):
    await socket.send(message)
    return await socket.recv() == message


async def main(address, authority, token):
    seen = {}
    try:
        async with dial(address, authority, ""):
            seen["without_token"] = 101
    except InvalidStatus as refused:
        seen["without_token"] = refused.response.status_code
    async with dial(address, authority, token) as socket:
        seen["hello"] = await socket.recv()
        seen["subprotocol"] = socket.subprotocol
        seen["extensions"] = [extension.name for extension in socket.protocol.extensions]
        seen["text"] = await echoes(socket, "gr\u00fc\u00dfe \u2603")
        seen["empty"] = await echoes(socket, b"")
        seen["large"] = await echoes(socket, bytes(range(256)) * (4 << 12))
        await socket.send([b"in ", b"three ", b"frames"])
        seen["fragments"] = await socket.recv() == b"in three frames"
        many = [f"message {number}" for number in range(200)]
        for message in many:
            await socket.send(message)
        seen["in_order"] = [await socket.recv() for _ in many] == many
        seen["pong"] = await (await socket.ping(b"are you there?")) >= 0
        await socket.send("close")
        try:
            await socket.recv()
        except ConnectionClosed as closed:
            seen["close"] = [closed.rcvd.code, closed.rcvd.reason]
    async with dial(address, authority, token) as socket:
        await socket.recv()
        await socket.close(4002, "enough")
        seen["own_close"] = [socket.close_code, socket.close_reason]
    print(json.dumps(seen))


asyncio.run(main(*sys.argv[1:]))
