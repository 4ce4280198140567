"""Calls the gRPC server through the edge at ADDRESS over TLS, and prints what it saw as JSON."""

import json
import queue
import sys

import grpc

PATIENCE = 20


def main(address, authority, token):
    with open(authority, "rb") as file:
        credentials = grpc.ssl_channel_credentials(file.read())
    options = [
        ("grpc.ssl_target_name_override", "localhost"),
        ("grpc.default_authority", "localhost:8443"),
        ("grpc.max_receive_message_length", -1),
    ]
    channel = grpc.secure_channel(f"ipv4:{address}:8443", credentials, options)
    with channel:
        print(json.dumps(calls(channel, (("authorization", f"Bearer {token}"),))))


def calls(channel, metadata):
    seen = {}
    unary = channel.unary_unary("/test.Echo/Unary")
    answer, call = unary.with_call(b"hello", metadata=metadata, timeout=PATIENCE)
    seen["unary"] = answer.decode()
    seen["unary_trailer"] = dict(call.trailing_metadata()).get("x-trailer")
    large = b"x" * (3 << 20)
    seen["large"] = len(unary(large, metadata=metadata, timeout=PATIENCE)) >= len(large)
    stream = channel.unary_stream("/test.Echo/ServerStream")(b"1000", metadata=metadata, timeout=PATIENCE)
    seen["server_stream"] = [message for message in stream] == [b"%d" % number for number in range(1000)]
    parts = (b"y" * 10_000 for _ in range(100))
    total = channel.stream_unary("/test.Echo/ClientStream")(parts, metadata=metadata, timeout=PATIENCE)
    seen["client_stream"] = int(total)
    seen["bidi"] = bidi(channel, metadata)
    seen["fail"] = failure(lambda: channel.unary_unary("/test.Echo/Fail")(b"", metadata=metadata, timeout=PATIENCE))
    late = channel.unary_stream("/test.Echo/FailLate")(b"", metadata=metadata, timeout=PATIENCE)
    seen["first"] = next(late).decode()
    seen["fail_late"] = failure(lambda: next(late))
    seen["unknown"] = failure(lambda: channel.unary_unary("/test.Echo/Nothing")(b"", metadata=metadata, timeout=PATIENCE))
    seen["without_token"] = failure(lambda: unary(b"hello", timeout=PATIENCE))[0]
    return seen


def bidi(channel, metadata):
    """Each message is answered before the next one is sent: neither side waits for the other's end."""
    outgoing = queue.Queue()
    answers = channel.stream_stream("/test.Echo/Bidi")(iter(outgoing.get, None), metadata=metadata, timeout=PATIENCE)
    heard = []
    for word in (b"one", b"two", b"three"):
        outgoing.put(word)
        heard.append(next(answers).decode())
    outgoing.put(None)
    return heard + [message.decode() for message in answers]


def failure(call):
    try:
        call()
        return ["OK", "", None]
    except grpc.RpcError as error:
        trailers = dict(error.trailing_metadata() or ())
        return [error.code().name, error.details(), trailers.get("x-trailer")]


main(*sys.argv[1:])
