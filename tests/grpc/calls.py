"""gRPC as its own library speaks it: a server, and a client that holds every kind of call against what it must be.

    calls.py serve         prints its port, and serves until it is ended
    calls.py call PORT     calls through a gateway at PORT; prints a line a check, and fails with the first that is wrong

Messages are bytes, so no schema is needed.
"""

import sys
import time
from concurrent import futures

import grpc

MEGABYTE = 1 << 20
MESSAGE = "no such order: 50 % gone, \u00fcber"


def echo(request, context):
    context.send_initial_metadata((("x-first", "head"),))
    context.set_trailing_metadata((("x-last", "trailer"), ("x-blob-bin", b"\x00\xff")))
    sent = dict(context.invocation_metadata())
    return sent.get("x-key", "").encode() + b":" + request


def count(request, context):
    for n in range(int(request)):
        yield str(n).encode()


def total(requests, context):
    return str(sum(len(request) for request in requests)).encode()


def talk(requests, context):
    for request in requests:
        yield b"you said " + request


def fail(request, context):
    context.set_trailing_metadata((("x-last", "trailer"),))
    context.abort(grpc.StatusCode.NOT_FOUND, MESSAGE)


def fail_later(request, context):
    yield b"one"
    context.abort(grpc.StatusCode.DATA_LOSS, "in the middle")


def slow(request, context):
    while context.is_active():
        time.sleep(0.01)
    return b""


def big(request, context):
    for n in range(int(request)):
        yield bytes([n % 256]) * MEGABYTE


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=32), options=OPTIONS)
    handlers = {
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
        "Count": grpc.unary_stream_rpc_method_handler(count),
        "Total": grpc.stream_unary_rpc_method_handler(total),
        "Talk": grpc.stream_stream_rpc_method_handler(talk),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "FailLater": grpc.unary_stream_rpc_method_handler(fail_later),
        "Slow": grpc.unary_unary_rpc_method_handler(slow),
        "Big": grpc.unary_stream_rpc_method_handler(big),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("tests.Calls", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


def failure(call):
    try:
        list(call) if hasattr(call, "__iter__") else call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("it did not fail")


def checks(channel):
    one, many = channel.unary_unary, channel.unary_stream

    answer, call = one("/tests.Calls/Echo").with_call(b"hello", metadata=(("x-key", "value"),), timeout=10)
    assert answer == b"value:hello", answer
    assert ("x-first", "head") in list(call.initial_metadata()), call.initial_metadata()
    trailing = dict(call.trailing_metadata())
    assert trailing["x-last"] == "trailer" and trailing["x-blob-bin"] == b"\x00\xff", trailing
    yield "one request, one answer, metadata both ways"

    assert one("/tests.Calls/Echo")(b"") == b":"
    assert len(one("/tests.Calls/Echo")(b"x" * (8 * MEGABYTE), timeout=60)) == 8 * MEGABYTE + 1
    yield "empty and 8 MiB messages"

    assert list(many("/tests.Calls/Count")(b"1000", timeout=20)) == [str(n).encode() for n in range(1000)]
    assert list(many("/tests.Calls/Count")(b"0", timeout=20)) == []
    yield "a stream of answers"

    parts = iter([b"x" * 1000] * 500)
    assert channel.stream_unary("/tests.Calls/Total")(parts, timeout=20) == b"500000"
    yield "a stream of requests"

    said = []

    def ask():
        for n in range(100):
            # The next one is only said when the one before was answered.
            while len(said) < n:
                time.sleep(0.001)
            yield str(n).encode()

    for answer in channel.stream_stream("/tests.Calls/Talk")(ask(), timeout=30):
        said.append(answer)
    assert said == [b"you said %d" % n for n in range(100)], said
    yield "both ways at once"

    sizes = [len(part) for part in many("/tests.Calls/Big")(b"64", timeout=60)]
    assert sizes == [MEGABYTE] * 64, sizes
    yield "64 MiB in a stream"

    error = failure(lambda: one("/tests.Calls/Fail")(b"", timeout=10))
    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, MESSAGE), error
    assert dict(error.trailing_metadata())["x-last"] == "trailer"
    got = many("/tests.Calls/FailLater")(b"", timeout=10)
    assert next(got) == b"one"
    error = failure(got)
    assert (error.code(), error.details()) == (grpc.StatusCode.DATA_LOSS, "in the middle"), error
    yield "the server's own failures, at once and in the middle"

    began = time.monotonic()
    error = failure(lambda: one("/tests.Calls/Slow")(b"", timeout=0.5))
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
    assert time.monotonic() - began < 5
    yield "a deadline"

    for method, code in (
        ("/tests.Unknown/Method", grpc.StatusCode.UNIMPLEMENTED),
        ("/tests.Denied/Method", grpc.StatusCode.PERMISSION_DENIED),
        ("/tests.Dead/Method", grpc.StatusCode.UNAVAILABLE),
    ):
        error = failure(lambda: one(method)(b"hello", timeout=10))
        assert error.code() == code and error.details(), error
    yield "the gateway's refusals"

    assert one("/tests.Calls/Echo")(b"still", timeout=10) == b":still"
    yield "the connection is as good as before"


def call(port):
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
        for check in checks(channel):
            print(check, flush=True)


if __name__ == "__main__":
    serve() if sys.argv[1] == "serve" else call(sys.argv[2])
