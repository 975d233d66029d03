//! Out of descriptors: accepting pauses, those inside are served, and those outside get in when others leave.

use crate::client::{Client, request};
use crate::harness::Encke;

#[test]
fn running_out_of_descriptors_pauses_accepting() {
    let server = Encke::start_with_descriptors(40, &[]);
    let mut control = server.admin();
    let mut parked: Vec<Client> = (0..10).map(|_| server.connect()).collect();
    for poll in &mut parked {
        poll.request("GET", "/sub/x", &[], b"");
    }
    control.listeners("x", 10);

    // The kernel completes connections on the server's behalf: all of these connect, some are not accepted.
    let mut crowd: Vec<Client> = (0..60).map(|_| server.connect()).collect();
    for client in &mut crowd {
        client.send(request("GET", "/healthz", &[], b""));
    }
    // The time in which a busy loop would show is the time that a poll waits, which shows that timers go on.
    let before = server.cpu_ticks();
    assert_eq!(control.get("/sub/y?timeout=1", &[]).status, 204);
    let ticks = server.cpu_ticks() - before;
    assert!(ticks < 30, "{ticks} hundredths of a second of processor time spent in one second of waiting");

    assert_eq!(control.ask("POST", "/pub/x", &[], b"news").status, 201);
    for poll in &mut parked {
        assert_eq!(poll.answer().text(), "news", "who was inside is served");
    }

    // The first come were accepted first; as each leaves when it has been answered, everyone gets in.
    for mut client in crowd {
        let answer = client.answer();
        assert_eq!((answer.status, answer.text().trim()), (200, "ok"));
    }
    let mut poll = server.connect();
    poll.request("GET", "/sub/x", &[], b"");
    control.listeners("x", 1);
    control.publish("x", &[], b"all is well");
    assert_eq!(poll.answer().text(), "all is well");
}

#[test]
fn a_crowd_that_takes_the_very_last_descriptor_leaves_the_door_open() {
    const DESCRIPTORS: usize = 40;
    let server = Encke::start_with_descriptors(DESCRIPTORS, &[]);
    let taken = server.descriptors_below(DESCRIPTORS);
    let crowd: Vec<Client> = (taken..DESCRIPTORS).map(|_| server.connect()).collect();
    // Nobody is left outside, and yet the next accept fails.
    server.logged("cannot accept");
    drop(crowd);
    server.logged("accepting again");
    assert_eq!(server.get("/healthz", &[]).status, 200);
}
