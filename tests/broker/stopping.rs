//! A clean stop, and what is there after it.

use std::time::Instant;

use crate::client::{Client, Fetching, PATIENCE, fetched, put};
use crate::started;

#[test]
fn a_stop_answers_fetches_that_wait_and_keeps_all_data() {
    let (setup, broker) = started(&[]);
    let mut client = Client::connect(&broker.address());
    client.create("t", 2, &[]);
    for n in 0..50 {
        let value = n.to_string();
        assert_eq!(
            put(&mut client, "t", n % 2, &[&value]),
            (0, i64::from(n / 2))
        );
    }
    let mut parked = Client::connect(&broker.address());
    let mut fetch = Fetching::new("t", &[(0, 25), (1, 25)]);
    fetch.max_wait_ms = 600_000;
    fetch.with(|f| parked.send(11, f));
    // an answered request on another connection: the fetch before it has been read by now
    put(&mut client, "t", 0, &["last"]);
    let (error, _, _) = fetched(&parked.next().unwrap(), 11);
    assert_eq!(error, 0);
    let from = [(0, 26), (1, 25)];
    fetch.from = &from;
    fetch.with(|f| parked.send(11, f));
    put(&mut client, "t", 0, &["after"]);
    let begin = Instant::now();
    broker.stop().unwrap();
    assert!(begin.elapsed() < PATIENCE);
    let answered = parked.next().map(|answer| fetched(&answer, 11).0);
    assert!(answered.is_none_or(|error| error == 0));

    let broker = setup.start().unwrap();
    let mut client = Client::connect(&broker.address());
    let answer = Fetching::new("t", &[(0, 0), (1, 0)]).with(|f| client.ask(11, f));
    let (_, _, found) = fetched(&answer, 11);
    let even: Vec<String> = (0..25).map(|n| (2 * n).to_string()).collect();
    let odd: Vec<String> = (0..25).map(|n| (2 * n + 1).to_string()).collect();
    assert_eq!(found[0].values[..25], even);
    assert_eq!(found[0].values[25..], ["last", "after"]);
    assert_eq!(found[1].values, odd);
    assert_eq!(
        put(&mut client, "t", 1, &["more"]),
        (0, 25),
        "offsets go on"
    );
    broker.stop().unwrap();
}
