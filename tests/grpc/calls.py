"""gRPC as its own library speaks it: a server, and a client that holds every kind of call against what it must be.

    calls.py serve [broken]     prints its port, and serves until it is ended; broken: answers begin, and are UNAVAILABLE
    calls.py call PORT          calls through a gateway at PORT; prints a line a check, and fails with the first that is wrong
    calls.py users PORT METHOD  two hundred users call METHOD in turns until stdin is closed; prints how many calls went
                                well, and how many did not

Messages are bytes, so no schema is needed.
"""

import sys
import threading
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


def count_broken(request, context):
    yield b"0"
    context.abort(grpc.StatusCode.UNAVAILABLE, "the backend behind is gone")


def echo_broken(request, context):
    context.abort(grpc.StatusCode.UNAVAILABLE, "the backend behind is gone")


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


def serve(broken):
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=32), options=OPTIONS)
    handlers = {
        "Echo": grpc.unary_unary_rpc_method_handler(echo_broken if broken else echo),
        "Count": grpc.unary_stream_rpc_method_handler(count_broken if broken else count),
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


def users(port, method):
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    well = wrong = 0
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
        calls = channel.unary_stream(f"/tests.Calls/{method}")
        while not ended.is_set():
            user = (("x-user-id", f"u{(well + wrong) % 200}"),)
            try:
                list(calls(b"1", metadata=user, timeout=10))
                well += 1
            except grpc.RpcError:
                wrong += 1
    print(well, wrong)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(broken=sys.argv[2:] == ["broken"])
    elif sys.argv[1] == "call":
        call(sys.argv[2])
    else:
        users(*sys.argv[2:])
