//! Topics, cluster and producer ids over the wire, in every version that is served, on the built
//! broker; `CORELANE_TEST_BROKER=kafka` asks Apache Kafka the same.

mod client;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use corelane::base::error_code::ErrorCode;
use corelane::base::ids::Uuid;
use corelane::wire::api::ApiKey;
use corelane::wire::array::Array;
use corelane::wire::messages::*;

use client::Client;
use support::broker::{Broker, Setup, is_kafka};
use support::wait;

const NONE: i16 = 0;

fn started(overrides: &[(&str, &str)]) -> (Setup, Broker) {
    let setup = Setup::new(overrides).unwrap();
    let broker = setup.start().unwrap();
    (setup, broker)
}

fn versions(api: ApiKey) -> RangeInclusive<i16> {
    api.versions().unwrap()
}

fn code(error: ErrorCode) -> i16 {
    error.code()
}

fn topic(name: &str, partitions: i32, replicas: i16) -> CreatableTopic<'_> {
    CreatableTopic {
        name,
        num_partitions: partitions,
        replication_factor: replicas,
        ..CreatableTopic::default()
    }
}

/// Makes topics in the newest version; name, error and id of each.
fn create(client: &mut Client, topics: Vec<CreatableTopic<'_>>) -> Vec<(String, i16, Uuid)> {
    let request = CreateTopicsRequest {
        topics: topics.into(),
        timeout_ms: 20_000,
        validate_only: false,
    };
    let answer = client.ask(7, &request);
    let response: CreateTopicsResponse<'_> = answer.read();
    response
        .topics
        .iter()
        .map(|t| (t.name.to_owned(), t.error_code, t.topic_id))
        .collect()
}

/// Names and ids of all topics once there are so many: Kafka tells of a change after it answered it,
/// we must have before.
fn topics_when(client: &mut Client, count: usize) -> Vec<(String, Uuid)> {
    let limit = Duration::from_secs(if is_kafka() { 20 } else { 0 });
    let deadline = wait::Deadline::after(limit);
    loop {
        let all = all_topics(client);
        if all.len() == count || deadline.passed() {
            return all;
        }
        wait::pause(Duration::from_millis(20));
    }
}

/// Names and ids of all topics.
fn all_topics(client: &mut Client) -> Vec<(String, Uuid)> {
    let request = MetadataRequest {
        topics: Array::Null,
        ..MetadataRequest::default()
    };
    let answer = client.ask(12, &request);
    let response: MetadataResponse<'_> = answer.read();
    let named = response.topics.iter();
    let mut all: Vec<(String, Uuid)> = named
        .map(|t| (t.name.unwrap().to_owned(), t.topic_id))
        .collect();
    all.sort();
    all
}

#[test]
fn api_versions_answers_every_version_and_refuses_unknown_ones_in_version_0() {
    let (_setup, broker) = started(&[]);
    let mut client = Client::connect(&broker.address());
    for version in versions(ApiKey::ApiVersions) {
        let request = ApiVersionsRequest {
            client_software_name: "a-test",
            client_software_version: "1.0",
            ..ApiVersionsRequest::default()
        };
        let answer = client.ask(version, &request);
        let response: ApiVersionsResponse<'_> = answer.read();
        assert_eq!(response.error_code, NONE, "version {version}");
        let range = |api: ApiKey| {
            let mut keys = response.api_keys.iter();
            let found = keys.find(|k| k.api_key == api.code())?;
            Some((found.min_version, found.max_version))
        };
        assert_eq!(range(ApiKey::Produce), Some((0, 13)));
        assert_eq!(range(ApiKey::Metadata), Some((0, 13)));
        assert_eq!(range(ApiKey::CreateTopics), Some((2, 7)));
        assert_eq!(range(ApiKey::LeaderAndIsr), None);
        // clients before version 4 stumble over features that begin at level 0 (KAFKA-17011)
        let level_0 = response.supported_features.iter();
        let level_0 = level_0.filter(|f| f.min_version == 0).count();
        assert_eq!(level_0 > 0, version >= 4, "version {version}");
    }
    // a version of the future, with a body that nobody knows
    let mut request = vec![0, 0, 0, 13, 0, 18, 0, 99, 0, 0, 0, 9, 0xff, 0xff, 0, 2, 3];
    let answer = client.answer_to(&request, ApiKey::ApiVersions, 99).unwrap();
    let response: ApiVersionsResponse<'_> = answer.read_as(0);
    assert_eq!(response.error_code, code(ErrorCode::UnsupportedVersion));
    let keys: Vec<i16> = response.api_keys.iter().map(|k| k.api_key).collect();
    assert_eq!(keys, [18]);
    // the connection goes on
    let unnamed = ApiVersionsRequest {
        client_software_name: "no spaces allowed",
        client_software_version: "1",
        ..ApiVersionsRequest::default()
    };
    let answer = client.ask(3, &unnamed);
    let response: ApiVersionsResponse<'_> = answer.read();
    assert_eq!(response.error_code, code(ErrorCode::InvalidRequest));
    // any other API in a version that is not served ends it
    request[4..8].copy_from_slice(&[0, 3, 0, 99]);
    assert!(client.answer_to(&request, ApiKey::Metadata, 99).is_none());
}

#[test]
fn topics_are_created_in_every_version() {
    let (_setup, broker) = started(&[]);
    let mut client = Client::connect(&broker.address());
    for version in versions(ApiKey::CreateTopics) {
        let name = format!("made-by-{version}");
        let assigned = format!("assigned-by-{version}");
        let configs = vec![CreatableTopicConfig {
            name: "retention.ms",
            value: Some("12345"),
        }];
        let assignments = (0..2).map(|n| CreatableReplicaAssignment {
            partition_index: n,
            broker_ids: vec![1].into(),
        });
        let null = vec![CreatableTopicConfig {
            name: "retention.ms",
            value: None,
        }];
        let unknown = vec![CreatableTopicConfig {
            name: "no.such.config",
            value: Some("1"),
        }];
        let defaults = if version >= 4 { -1 } else { 1 };
        let request = |validate_only| CreateTopicsRequest {
            topics: vec![
                CreatableTopic {
                    configs: configs.clone().into(),
                    ..topic(&name, 3, 1)
                },
                CreatableTopic {
                    assignments: assignments.clone().collect(),
                    ..topic(&assigned, -1, -1)
                },
                topic("zero", 0, 1),
                topic("no-replicas", 1, 0),
                topic("too-many-replicas", 1, 2),
                topic("bad name", 1, 1),
                topic("twice", defaults.into(), defaults),
                topic("twice", 1, 1),
                CreatableTopic {
                    configs: null.clone().into(),
                    ..topic("null", 1, 1)
                },
                CreatableTopic {
                    configs: unknown.clone().into(),
                    ..topic("unknown", 1, 1)
                },
            ]
            .into(),
            timeout_ms: 20_000,
            validate_only,
        };
        for validate_only in [true, false] {
            let answer = client.ask(version, &request(validate_only));
            let response: CreateTopicsResponse<'_> = answer.read();
            let find = |name: &str| response.topics.iter().find(|t| t.name == name).unwrap();
            let error = |name: &str| find(name).error_code;
            let made = find(&name);
            assert_eq!(made.error_code, NONE, "version {version}: {made:?}");
            assert_eq!(error(&assigned), NONE);
            assert_eq!(error("zero"), code(ErrorCode::InvalidPartitions));
            let factor = code(ErrorCode::InvalidReplicationFactor);
            assert_eq!(error("no-replicas"), factor);
            assert_eq!(error("too-many-replicas"), factor);
            assert_eq!(error("bad name"), code(ErrorCode::InvalidTopicException));
            assert_eq!(error("twice"), code(ErrorCode::InvalidRequest));
            let times = response.topics.iter().filter(|t| t.name == "twice").count();
            assert_eq!(times, 1);
            assert_eq!(error("null"), code(ErrorCode::InvalidConfig));
            assert_eq!(error("unknown"), code(ErrorCode::InvalidConfig));
            assert!(find("zero").error_message.is_some());
            if version >= 5 {
                assert_eq!((made.num_partitions, made.replication_factor), (3, 1));
                let config = made.configs.iter().find(|c| c.name == "retention.ms");
                let config = config.unwrap();
                assert_eq!((config.value, config.config_source), (Some("12345"), 1));
                assert_eq!(find(&assigned).num_partitions, 2);
            }
            if version >= 7 && !validate_only {
                assert!(!made.topic_id.is_zero());
            }
        }
        let answer = client.ask(version, &request(false));
        let response: CreateTopicsResponse<'_> = answer.read();
        let again = response.topics.iter().find(|t| t.name == name).unwrap();
        assert_eq!(again.error_code, code(ErrorCode::TopicAlreadyExists));
    }
    let made = versions(ApiKey::CreateTopics).count();
    assert_eq!(topics_when(&mut client, 2 * made).len(), 2 * made);
}

/// A refusal quotes what is wrong: a string as long as the protocol allows must not overflow the
/// answer's.
#[test]
fn a_refusal_of_a_long_setting_fits_into_its_answer() {
    let (_setup, broker) = started(&[]);
    let mut client = Client::connect(&broker.address());
    let value = "é".repeat(16_380);
    for version in versions(ApiKey::CreateTopics) {
        let config = CreatableTopicConfig {
            name: "retention.ms",
            value: Some(&value),
        };
        let refused = CreatableTopic {
            configs: vec![config].into(),
            ..topic("refused", 1, 1)
        };
        let request = CreateTopicsRequest {
            topics: vec![refused].into(),
            timeout_ms: 20_000,
            validate_only: false,
        };
        let answer = client.ask(version, &request);
        let response: CreateTopicsResponse<'_> = answer.read();
        let told = response.topics.iter().next().unwrap();
        assert_eq!(told.error_code, code(ErrorCode::InvalidConfig));
        let message = told.error_message.unwrap();
        assert!(message.contains("éé"), "version {version}: {message}");
    }
}

/// Tools page through topics, and see machines where clients see lanes.
#[test]
fn topics_are_described_page_by_page() {
    let (_setup, broker) = started(&[("corelane.cores", "2")]);
    let mut client = Client::connect(&broker.address());
    let made = create(
        &mut client,
        vec![topic("a", 3, 1), topic("b", 1, 1), topic("c", 4, 1)],
    );
    topics_when(&mut client, 3);
    let ask = |client: &mut Client, names: &[&'static str], limit, from: Option<(&str, i32)>| {
        let names = names.iter().map(|name| TopicRequest { name });
        let request = DescribeTopicPartitionsRequest {
            topics: names.collect(),
            response_partition_limit: limit,
            cursor: from.map(|(topic_name, partition_index)| PartitionCursor {
                topic_name,
                partition_index,
            }),
        };
        let answer = client.ask(0, &request);
        let response: DescribeTopicPartitionsResponse<'_> = answer.read();
        let mut partitions = Vec::new();
        let mut errors = Vec::new();
        for topic in response.topics.iter() {
            let name = topic.name.unwrap().to_owned();
            if topic.error_code != NONE {
                errors.push((name.clone(), topic.error_code));
            } else {
                let id = made.iter().find(|(made, _, _)| *made == name).unwrap().2;
                assert_eq!(topic.topic_id, id);
            }
            for p in topic.partitions.iter() {
                let machine: Vec<i32> = p.replica_nodes.iter().collect();
                assert_eq!(
                    (p.error_code, p.leader_id, &machine[..]),
                    (NONE, 1, &[1][..])
                );
                partitions.push(format!("{name}-{}", p.partition_index));
            }
        }
        let next = response.next_cursor.as_ref();
        let next = next.map(|c| (c.topic_name.to_owned(), c.partition_index));
        (partitions, errors, next)
    };
    let all = ["a-0", "a-1", "a-2", "b-0", "c-0", "c-1", "c-2", "c-3"];
    let (partitions, errors, next) = ask(&mut client, &[], 2000, None);
    assert_eq!(
        (&partitions[..], errors, next),
        (&all.map(String::from)[..], vec![], None)
    );
    for limit in [1, 2, 3, 5, 8, 0, -1] {
        let (mut paged, mut cursor) = (Vec::new(), None::<(String, i32)>);
        loop {
            let from = cursor.as_ref().map(|(name, n)| (name.as_str(), *n));
            let (partitions, _, next) = ask(&mut client, &[], limit, from);
            let right = partitions.len() <= usize::try_from(limit).unwrap_or(1).max(1);
            assert!(right, "{partitions:?} of {limit}");
            paged.extend(partitions);
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(paged, all, "pages of {limit}");
    }
    let (partitions, errors, _) = ask(&mut client, &["missing", "b", "a b"], 2000, None);
    assert_eq!(partitions, ["b-0"]);
    let unknown = code(ErrorCode::UnknownTopicOrPartition);
    let invalid = code(ErrorCode::InvalidTopicException);
    let right = [("a b".to_owned(), invalid), ("missing".to_owned(), unknown)];
    assert_eq!(errors, right);
    let (_, errors, _) = ask(&mut client, &["b"], 10, Some(("b", -1)));
    assert_eq!(errors, [("b".to_owned(), code(ErrorCode::InvalidRequest))]);
}

#[test]
fn metadata_answers_every_version() {
    let (_setup, broker) = started(&[]);
    let mut client = Client::connect(&broker.address());
    let made = create(&mut client, vec![topic("a", 3, 1), topic("b", 1, 1)]);
    let id = made[0].2;
    for version in versions(ApiKey::Metadata) {
        let named = |name| MetadataRequestTopic {
            name: Some(name),
            topic_id: Uuid::ZERO,
        };
        let request = |topics: Array<'static, MetadataRequestTopic<'static>>| MetadataRequest {
            topics,
            allow_auto_topic_creation: version < 4,
            ..MetadataRequest::default()
        };
        let all = if version == 0 {
            Array::EMPTY
        } else {
            Array::Null
        };
        let answer = client.ask(version, &request(all));
        let response: MetadataResponse<'_> = answer.read();
        let names: BTreeSet<&str> = response.topics.iter().filter_map(|t| t.name).collect();
        assert_eq!(names, BTreeSet::from(["a", "b"]), "version {version}");
        let node = response.brokers.iter().next().unwrap();
        assert_eq!(format!("{}:{}", node.host, node.port), broker.address());
        assert_eq!(node.node_id, 1);
        let a = response
            .topics
            .iter()
            .find(|t| t.name == Some("a"))
            .unwrap();
        assert_eq!(a.error_code, NONE);
        let mut partitions: Vec<_> = a.partitions.iter().collect();
        partitions.sort_by_key(|p| p.partition_index);
        for (n, p) in partitions.iter().enumerate() {
            assert_eq!(p.partition_index, n as i32);
            assert_eq!((p.error_code, p.leader_id), (NONE, 1));
            assert!(p.replica_nodes.iter().eq([1]) && p.isr_nodes.iter().eq([1]));
            assert!(p.offline_replicas.is_empty());
            assert!(version < 7 || p.leader_epoch >= 0);
        }
        assert_eq!(partitions.len(), 3);
        if version >= 1 {
            assert_eq!(response.controller_id, 1);
            let answer = client.ask(version, &request(Array::EMPTY));
            assert!(answer.read::<MetadataResponse<'_>>().topics.is_empty());
        }
        if version >= 2 {
            assert!(!response.cluster_id.unwrap().is_empty());
        }
        if version >= 10 {
            assert_eq!(a.topic_id, id);
        }
        // from version 4 on a client can ask without making the topic
        if version >= 4 {
            let topics = vec![named("missing"), named("bad name"), named("b")];
            let answer = client.ask(version, &request(topics.into()));
            let response: MetadataResponse<'_> = answer.read();
            let error = |name| {
                let mut topics = response.topics.iter();
                topics.find(|t| t.name == Some(name)).unwrap().error_code
            };
            assert_eq!(error("missing"), code(ErrorCode::UnknownTopicOrPartition));
            assert_eq!(error("bad name"), code(ErrorCode::InvalidTopicException));
            assert_eq!(error("b"), NONE);
        }
        if version >= 12 {
            let unknown = Uuid::from_random(1, 2);
            let by_id = |topic_id| MetadataRequestTopic {
                name: None,
                topic_id,
            };
            let topics = vec![by_id(id), by_id(unknown)];
            let answer = client.ask(version, &request(topics.into()));
            let response: MetadataResponse<'_> = answer.read();
            let of = |id| response.topics.iter().find(|t| t.topic_id == id).unwrap();
            assert_eq!((of(id).error_code, of(id).name), (NONE, Some("a")));
            assert_eq!(of(unknown).error_code, code(ErrorCode::UnknownTopicId));
        }
        if version >= 8 {
            let asking = MetadataRequest {
                topics: vec![named("a")].into(),
                include_topic_authorized_operations: true,
                ..MetadataRequest::default()
            };
            let answer = client.ask(version, &asking);
            let response: MetadataResponse<'_> = answer.read();
            let a = response.topics.iter().next().unwrap();
            // Kafka answers only with an authoriser; everything is allowed then
            assert!(is_kafka() || a.topic_authorized_operations == 3576);
        }
    }
}

#[test]
fn a_question_makes_the_topic_where_broker_and_client_allow_it() {
    if is_kafka() {
        return; // answers first and makes the topic afterwards; its set-up knows no overrides
    }
    for (enabled, allowed) in [("true", true), ("true", false), ("false", true)] {
        let (_setup, broker) = started(&[
            ("auto.create.topics.enable", enabled),
            ("num.partitions", "4"),
        ]);
        let mut client = Client::connect(&broker.address());
        let request = MetadataRequest {
            topics: ["new", "bad name", "__consumer_offsets"]
                .map(|name| MetadataRequestTopic {
                    name: Some(name),
                    ..MetadataRequestTopic::default()
                })
                .to_vec()
                .into(),
            allow_auto_topic_creation: allowed,
            ..MetadataRequest::default()
        };
        let makes = enabled == "true" && allowed;
        let answer = client.ask(9, &request);
        let response: MetadataResponse<'_> = answer.read();
        let find = |name| {
            let mut topics = response.topics.iter();
            topics.find(|t| t.name == Some(name)).unwrap()
        };
        let bad = find("bad name").error_code;
        assert_eq!(bad, code(ErrorCode::InvalidTopicException));
        let unknown = code(ErrorCode::UnknownTopicOrPartition);
        // the broker's own topics are not made by a question
        assert_eq!(find("__consumer_offsets").error_code, unknown);
        let new = find("new");
        let expected = if makes { (NONE, 4) } else { (unknown, 0) };
        assert_eq!((new.error_code, new.partitions.len()), expected);
        assert_eq!(all_topics(&mut client).len(), usize::from(makes));
    }
}

#[test]
fn topics_are_deleted_in_every_version() {
    let (_setup, broker) = started(&[]);
    let mut client = Client::connect(&broker.address());
    for version in versions(ApiKey::DeleteTopics) {
        let made = create(&mut client, vec![topic("a", 2, 1), topic("b", 1, 1)]);
        topics_when(&mut client, 2);
        let id = |name: &str| made.iter().find(|t| t.0 == name).unwrap().2;
        let unknown = Uuid::from_random(3, 4);
        let state = |name, topic_id| DeleteTopicState { name, topic_id };
        let request = DeleteTopicsRequest {
            topics: vec![
                state(Some("a"), Uuid::ZERO),
                state(None, id("b")),
                state(Some("missing"), Uuid::ZERO),
                state(None, unknown),
            ]
            .into(),
            topic_names: vec!["a", "b", "missing"].into(),
            timeout_ms: 20_000,
        };
        let answer = client.ask(version, &request);
        let response: DeleteTopicsResponse<'_> = answer.read();
        let error = |name| {
            let mut responses = response.responses.iter();
            responses.find(|r| r.name == Some(name)).unwrap().error_code
        };
        assert_eq!(error("a"), NONE, "version {version}");
        assert_eq!(error("b"), NONE, "version {version}");
        assert_eq!(error("missing"), code(ErrorCode::UnknownTopicOrPartition));
        if version >= 6 {
            let mut responses = response.responses.iter();
            let by_id = responses.find(|r| r.topic_id == unknown).unwrap();
            assert_eq!(by_id.error_code, code(ErrorCode::UnknownTopicId));
            let a = response.responses.iter().find(|r| r.name == Some("a"));
            assert_eq!(a.unwrap().topic_id, id("a"));
        }
        assert_eq!(topics_when(&mut client, 0), []);
    }
}

#[test]
fn topics_cannot_be_deleted_where_that_is_switched_off() {
    if is_kafka() {
        return; // its set-up knows no overrides
    }
    let (_setup, broker) = started(&[("delete.topic.enable", "false")]);
    let mut client = Client::connect(&broker.address());
    create(&mut client, vec![topic("a", 1, 1)]);
    for (version, error) in [
        (1, ErrorCode::InvalidRequest),
        (5, ErrorCode::TopicDeletionDisabled),
    ] {
        let request = DeleteTopicsRequest {
            topic_names: vec!["a"].into(),
            timeout_ms: 20_000,
            ..DeleteTopicsRequest::default()
        };
        let answer = client.ask(version, &request);
        let response: DeleteTopicsResponse<'_> = answer.read();
        let a = response.responses.iter().next().unwrap();
        assert_eq!(a.error_code, code(error), "version {version}");
    }
    assert_eq!(all_topics(&mut client).len(), 1);
}

#[test]
fn the_cluster_is_described_in_machines() {
    let (_setup, broker) = started(&[]);
    let mut client = Client::connect(&broker.address());
    for version in versions(ApiKey::DescribeCluster) {
        let request = DescribeClusterRequest {
            endpoint_type: 1,
            ..DescribeClusterRequest::default()
        };
        let answer = client.ask(version, &request);
        let response: DescribeClusterResponse<'_> = answer.read();
        assert_eq!(response.error_code, NONE);
        assert!(!response.cluster_id.is_empty());
        assert_eq!(response.controller_id, 1);
        let nodes: Vec<i32> = response.brokers.iter().map(|b| b.broker_id).collect();
        assert_eq!(nodes, [1]);
        let node = response.brokers.iter().next().unwrap();
        assert_eq!(format!("{}:{}", node.host, node.port), broker.address());
        assert_eq!(response.cluster_authorized_operations, i32::MIN);
        if version >= 1 {
            for (endpoint_type, error) in [
                (2, ErrorCode::MismatchedEndpointType),
                (9, ErrorCode::UnsupportedEndpointType),
            ] {
                let request = DescribeClusterRequest {
                    endpoint_type,
                    ..DescribeClusterRequest::default()
                };
                let answer = client.ask(version, &request);
                let response: DescribeClusterResponse<'_> = answer.read();
                assert_eq!(response.error_code, code(error));
            }
        }
    }
}

#[test]
fn settings_are_described_in_every_version() {
    let (_setup, broker) = started(&[]);
    let mut client = Client::connect(&broker.address());
    let own = CreatableTopicConfig {
        name: "retention.ms",
        value: Some("12345"),
    };
    let made = CreatableTopic {
        configs: vec![own].into(),
        ..topic("a", 1, 1)
    };
    create(&mut client, vec![made]);
    topics_when(&mut client, 1);
    for version in versions(ApiKey::DescribeConfigs) {
        let resource = |resource_type, resource_name, keys| DescribeConfigsResource {
            resource_type,
            resource_name,
            configuration_keys: keys,
        };
        let some = vec!["retention.ms", "segment.bytes"].into();
        let request = DescribeConfigsRequest {
            resources: vec![
                resource(2, "a", some),
                resource(2, "missing", Array::Null),
                resource(4, "1", vec!["node.id"].into()),
                resource(4, "77", Array::Null),
            ]
            .into(),
            include_synonyms: true,
            include_documentation: true,
        };
        let answer = client.ask(version, &request);
        let response: DescribeConfigsResponse<'_> = answer.read();
        let result = |name: &str| {
            let mut results = response.results.iter();
            results.find(|r| r.resource_name == name).unwrap()
        };
        let a = result("a");
        assert_eq!(
            (a.error_code, a.configs.len()),
            (NONE, 2),
            "version {version}"
        );
        let retention = a.configs.iter().find(|c| c.name == "retention.ms");
        let retention = retention.unwrap();
        assert_eq!(
            (retention.value, retention.config_source),
            (Some("12345"), 1)
        );
        let first = retention.synonyms.iter().next().unwrap();
        assert_eq!((first.name, first.value), ("retention.ms", Some("12345")));
        if version >= 3 {
            assert_eq!(retention.config_type, 5);
            assert!(retention.documentation.is_some());
        }
        let missing = result("missing").error_code;
        assert_eq!(missing, code(ErrorCode::UnknownTopicOrPartition));
        let broker = result("1");
        assert_eq!(broker.configs.iter().next().unwrap().value, Some("1"));
        assert_eq!(result("77").error_code, code(ErrorCode::InvalidRequest));
    }
}

#[test]
fn producer_ids_are_never_given_twice() {
    let (setup, mut broker) = started(&[]);
    let mut given = BTreeSet::new();
    for _ in 0..3 {
        let mut clients: Vec<Client> = (0..4).map(|_| Client::connect(&broker.address())).collect();
        for version in versions(ApiKey::InitProducerId) {
            for client in &mut clients {
                let request = InitProducerIdRequest {
                    transaction_timeout_ms: 60_000,
                    ..InitProducerIdRequest::default()
                };
                let response = loop {
                    let answer = client.ask(version, &request);
                    let response: InitProducerIdResponse = answer.read();
                    // Kafka has no ids right after its start
                    if !is_kafka() || response.error_code == NONE {
                        break response;
                    }
                    wait::pause(Duration::from_millis(20));
                };
                assert_eq!(response.error_code, NONE, "version {version}");
                assert_eq!(response.producer_epoch, 0);
                assert!(given.insert(response.producer_id), "{response:?}");
            }
        }
        let request = InitProducerIdRequest {
            transactional_id: Some(""),
            ..InitProducerIdRequest::default()
        };
        let answer = clients[0].ask(1, &request);
        let response: InitProducerIdResponse = answer.read();
        assert_eq!(response.error_code, code(ErrorCode::InvalidRequest));
        let request = InitProducerIdRequest {
            producer_id: 7,
            producer_epoch: -1,
            ..InitProducerIdRequest::default()
        };
        let answer = clients[0].ask(3, &request);
        let response: InitProducerIdResponse = answer.read();
        assert_eq!(response.error_code, code(ErrorCode::InvalidRequest));
        broker.kill().unwrap();
        broker = setup.start().unwrap();
    }
}

#[test]
fn topics_and_their_ids_survive_a_killed_process() {
    let (setup, mut broker) = started(&[]);
    let mut known = Vec::new();
    for round in 0..4 {
        let mut client = Client::connect(&broker.address());
        assert_eq!(all_topics(&mut client), known, "round {round}");
        let names: Vec<String> = (0..5).map(|n| format!("t-{round}-{n}")).collect();
        let topics = names.iter().map(|name| topic(name, 2, 1)).collect();
        for (name, error, id) in create(&mut client, topics) {
            assert_eq!(error, NONE);
            known.push((name, id));
        }
        let (gone, _) = known.remove(0);
        let request = DeleteTopicsRequest {
            topic_names: vec![gone.as_str()].into(),
            timeout_ms: 20_000,
            ..DeleteTopicsRequest::default()
        };
        let answer = client.ask(5, &request);
        let response: DeleteTopicsResponse<'_> = answer.read();
        assert_eq!(response.responses.iter().next().unwrap().error_code, NONE);
        known.sort();
        // answered means durable: nothing is waited for
        broker.kill().unwrap();
        broker = setup.start().unwrap();
    }
}
