//! Incremental fetch sessions (KIP-227).

use corelane::base::error_code::ErrorCode;
use corelane::wire::messages::*;

use crate::client::{Client, Fetching, fetched, put};
use crate::started;

#[test]
fn a_session_tells_only_what_is_new() {
    let (_setup, broker) = started(&[]);
    let mut client = Client::connect(&broker.address());
    client.create("t", 3, &[]);
    let mut reader = Client::connect(&broker.address());
    let mut fetch = Fetching::new("t", &[(0, 0), (1, 0), (2, 0)]);
    fetch.session = (0, 0);
    let answer = fetch.with(|f| reader.ask(11, f));
    let (error, session, found) = fetched(&answer, 11);
    assert_eq!((error, found.len()), (0, 3), "a full answer");
    assert_ne!(session, 0);

    let mut next = Fetching::new("t", &[]);
    next.session = (session, 1);
    let answer = next.with(|f| reader.ask(11, f));
    assert_eq!(fetched(&answer, 11), (0, session, vec![]), "nothing new");

    put(&mut client, "t", 1, &["x"]);
    next.session = (session, 2);
    let (_, _, found) = fetched(&next.with(|f| reader.ask(11, f)), 11);
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].partition, &found[0].values[..]),
        (1, &["x".to_owned()][..])
    );

    // moved on, and one partition forgotten
    let partitions = [FetchPartition {
        partition: 1,
        fetch_offset: 1,
        current_leader_epoch: -1,
        partition_max_bytes: 1000,
        ..FetchPartition::default()
    }];
    let topics = [FetchTopic {
        topic: "t",
        partitions: partitions[..].into(),
        ..FetchTopic::default()
    }];
    let gone = [ForgottenTopic {
        topic: "t",
        partitions: vec![2].into(),
        ..ForgottenTopic::default()
    }];
    put(&mut client, "t", 2, &["unseen"]);
    let request = FetchRequest {
        replica_id: -1,
        max_bytes: 1000,
        session_id: session,
        session_epoch: 3,
        topics: topics[..].into(),
        forgotten_topics_data: gone[..].into(),
        ..FetchRequest::default()
    };
    let answer = reader.ask(11, &request);
    assert_eq!(fetched(&answer, 11), (0, session, vec![]));
}

#[test]
fn wrong_ids_and_epochs_are_refused() {
    let (_setup, broker) = started(&[]);
    let mut client = Client::connect(&broker.address());
    let id = client.create("t", 1, &[]);
    let mut fetch = Fetching::new("t", &[(0, 0)]);
    fetch.session = (0, 0);
    let (_, session, _) = fetched(&fetch.with(|f| client.ask(11, f)), 11);
    let mut next = Fetching::new("t", &[]);
    next.id = id;
    let mut ask = |version, id, epoch| {
        next.session = (id, epoch);
        let (error, session, found) = fetched(&next.with(|f| client.ask(version, f)), version);
        assert!(error == 0 || (session == 0 && found.is_empty()));
        error
    };
    assert_eq!(
        ask(11, session, 2),
        ErrorCode::InvalidFetchSessionEpoch.code()
    );
    assert_eq!(
        ask(11, session + 1, 1),
        ErrorCode::FetchSessionIdNotFound.code()
    );
    assert_eq!(
        ask(13, session, 1),
        ErrorCode::FetchSessionTopicIdError.code()
    );
    assert_eq!(ask(11, session, 1), 0);
    assert_eq!(ask(11, session, -1), 0, "closed");
    assert_eq!(
        ask(11, session, 2),
        ErrorCode::FetchSessionIdNotFound.code()
    );
}

#[test]
fn without_a_slot_a_fetch_is_answered_without_a_session() {
    let (_setup, broker) = started(&[("max.incremental.fetch.session.cache.slots", "1")]);
    let mut client = Client::connect(&broker.address());
    client.create("t", 2, &[]);
    let mut sessions = Vec::new();
    for _ in 0..4 {
        let mut fetch = Fetching::new("t", &[(0, 0), (1, 0)]);
        fetch.session = (0, 0);
        let answer = fetch.with(|f| client.ask(11, f));
        let (error, session, found) = fetched(&answer, 11);
        assert_eq!((error, found.len()), (0, 2));
        sessions.push(session);
    }
    assert_ne!(sessions[0], 0);
    assert_eq!(sessions[1..], [0, 0, 0]);
}

#[test]
fn a_session_keeps_no_name_that_no_topic_can_have() {
    let (_setup, broker) = started(&[]);
    let mut client = Client::connect(&broker.address());
    client.create("t", 1, &[]);
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    let long = "x".repeat(32_000);
    let mut fetch = Fetching::new("t", &[(0, 0)]);
    fetch.session = (0, 0);
    let (_, session, _) = fetched(&fetch.with(|f| client.ask(11, f)), 11);
    assert_ne!(session, 0);
    let mut more = Fetching::new(&long, &[(0, 0), (1, 0)]);
    more.session = (session, 1);
    let errors =
        |found: &[crate::client::Fetched]| -> Vec<i16> { found.iter().map(|p| p.error).collect() };
    let (error, _, found) = fetched(&more.with(|f| client.ask(11, f)), 11);
    assert_eq!((error, errors(&found)), (0, vec![unknown; 2]), "named");
    let mut missing = Fetching::new("missing", &[(0, 0)]);
    for epoch in 2..4 {
        // who has not heard of a topic yet is told until it is there
        missing.session = (session, epoch);
        let (error, _, found) = fetched(&missing.with(|f| client.ask(11, f)), 11);
        assert_eq!((error, errors(&found)), (0, vec![unknown]));
        missing.from = &[];
    }
    // nothing but such names: nothing to remember
    more.session = (0, 0);
    let (error, session, found) = fetched(&more.with(|f| client.ask(11, f)), 11);
    assert_eq!((error, session, found.len()), (0, 0, 2));
}
