//! The ledger's own listener: what is no callback is refused in words, and nobody keeps the others out.

use rustix::process::Signal;

use super::crash::two_payments;
use crate::support::ledger::Ledger;
use crate::support::{Connection, get, post};

#[test]
fn what_is_no_callback_is_refused_with_a_problem_document() {
    let (_ledger, process) = Ledger::start();
    process.ask(&post("/callbacks/nowhere", "{}")).unwrap().is_problem(404, "unknown_channel");
    process.ask(&post("/callbacks/%ff", "{}")).unwrap().is_problem(404, "unknown_channel");
    let answer = process.ask(&get("/callbacks/card")).unwrap();
    answer.is_problem(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), Some("POST"));
    process.ask(&post("/callbacks/card", "{}")).unwrap().is_problem(401, "unverified");
    let large = vec![b'x'; (1 << 20) + 1];
    process.ask(&post("/callbacks/card", large)).unwrap().is_problem(413, "too_large");
    process.ask(&get("/v1/orders")).unwrap().is_problem(401, "no_token");
}

#[test]
fn what_the_gateway_does_on_a_signal_does_not_end_the_ledger() {
    let (_ledger, process) = Ledger::start();
    for signal in [Signal::HUP, Signal::USR1] {
        process.signal(signal);
        assert_eq!(process.ready(), Some(200), "after {signal:?}: {}", process.messages());
    }
}

#[test]
fn bodies_that_are_announced_and_never_sent_keep_nobody_out() {
    let (_ledger, process) = Ledger::start();
    let head = "POST /callbacks/card HTTP/1.1\r\nhost: ledger\r\ncontent-length: 1048576\r\n\r\nx";
    let mut silent: Vec<Connection> = (0..300).map(|_| Connection::to(process.port).unwrap()).collect();
    silent.iter_mut().for_each(|connection| connection.send(head.as_bytes()).unwrap());
    let [payment, other] = two_payments(5);
    for callback in [payment, other] {
        let answer = process.ask(&callback.request()).unwrap();
        assert!(callback.channel.is_acknowledged(&answer), "{}: {}", answer.status, answer.text());
    }
    assert_eq!(silent[0].answer(false).unwrap().status, 408, "and they are told to go");
}
