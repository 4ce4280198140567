"""Talks to the WebSocket server through the edge at ADDRESS over streams of HTTP/2, and prints what it saw as JSON."""

import json
import socket
import ssl
import sys

from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Message, Ping, Pong, TextMessage


class Client:
    """One connection, and what came on each of its streams."""

    def __init__(self, address, authority):
        context = ssl.create_default_context(cafile=authority)
        context.set_alpn_protocols(["h2"])
        stream = socket.create_connection((address, 8443), timeout=20)
        self.stream = context.wrap_socket(stream, server_hostname="localhost")
        assert self.stream.selected_alpn_protocol() == "h2"
        self.http = H2Connection()
        self.heads, self.bytes, self.ended = {}, {}, set()
        self.http.initiate_connection()
        self.until(lambda: self.http.remote_settings.get(SettingCodes.ENABLE_CONNECT_PROTOCOL) == 1)

    def until(self, done):
        self.stream.sendall(self.http.data_to_send())
        while not done():
            came = self.stream.recv(65536)
            assert came, "the edge closed the connection"
            for event in self.http.receive_data(came):
                if isinstance(event, ResponseReceived):
                    self.heads[event.stream_id] = dict(event.headers)
                elif isinstance(event, DataReceived):
                    self.bytes[event.stream_id] = self.bytes.get(event.stream_id, b"") + event.data
                    self.http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, (StreamEnded, StreamReset)):
                    self.ended.add(event.stream_id)
            self.stream.sendall(self.http.data_to_send())

    def send(self, stream, data):
        while data:
            self.until(lambda: self.http.local_flow_control_window(stream) > 0)
            room = min(self.http.local_flow_control_window(stream), self.http.max_outbound_frame_size)
            self.http.send_data(stream, data[:room])
            data = data[room:]
        self.until(lambda: True)


class Socket:
    """One WebSocket."""

    def __init__(self, client, token):
        self.client, self.number = client, client.http.get_next_available_stream_id()
        self.frames, self.messages = Connection(ConnectionType.CLIENT), []
        fields = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "https"),
            (":path", "/ws/x?y=z"),
            (":authority", "localhost:8443"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-protocol", "other, echo.v1"),
        ]
        token = [("authorization", f"Bearer {token}")] if token else []
        client.http.send_headers(self.number, fields + token)
        client.until(lambda: self.number in client.heads)
        self.head = {name.decode(): value.decode() for name, value in client.heads[self.number].items()}

    def send(self, event):
        self.client.send(self.number, self.frames.send(event))

    def receive(self):
        """The next message, whole, or what ended or answered something."""
        data = b""
        while True:
            for event in self.frames.events():
                if not isinstance(event, Message):
                    return event
                data = data + (event.data.encode() if isinstance(event, TextMessage) else event.data)
                if event.message_finished:
                    return data
            self.client.until(lambda: self.client.bytes.get(self.number))
            self.frames.receive_data(self.client.bytes.pop(self.number))


def main(address, authority, token):
    client = Client(address, authority)
    seen = {"without_token": Socket(client, "").head[":status"]}
    first, second = Socket(client, token), Socket(client, token)
    seen["status"] = first.head[":status"]
    seen["subprotocol"] = first.head["sec-websocket-protocol"]
    seen["accept"] = first.head.get("sec-websocket-accept")
    seen["hello"] = [socket.receive().decode() for socket in (first, second)]
    large = bytes(range(256)) * (4 << 12)
    first.send(BytesMessage(large))
    second.send(TextMessage("gr\u00fc\u00dfe \u2603"))
    seen["beside_it"] = second.receive().decode() == "gr\u00fc\u00dfe \u2603"
    seen["large"] = first.receive() == large
    first.send(Ping(b"are you there?"))
    pong = first.receive()
    seen["pong"] = isinstance(pong, Pong) and pong.payload == b"are you there?"
    first.send(TextMessage("close"))
    closed = first.receive()
    seen["close"] = [closed.code, closed.reason]
    first.send(closed.response())
    client.until(lambda: first.number in client.ended)
    second.send(CloseConnection(code=4002, reason="enough"))
    seen["own_close"] = second.receive().code
    print(json.dumps(seen))


main(*sys.argv[1:])
