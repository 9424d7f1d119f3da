//! Real clients against the built broker: each writes, all read, in several configurations.
//!
//! `tests/run` installs the clients that are not Rust; without them their cases are skipped, with
//! the reason. `CORELANE_TEST_BROKER=kafka` puts Apache Kafka in the broker's place.

mod cases;
mod client;
mod kcat;
mod librdkafka;
mod machine;
mod records;
mod stage;
#[path = "../support/mod.rs"]
mod support;
mod worker;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use machine::View;
use stage::{KINDS, Kind, Stage};
use support::broker::is_kafka;
use support::ports;

/// One configuration and the cases on it, in the order in which they run.
struct Suite {
    name: &'static str,
    stage: Arc<Mutex<Stage>>,
    trials: Vec<Trial>,
}

impl Suite {
    fn new(name: &'static str, overrides: &[(&str, &str)]) -> Suite {
        let stage = Stage::new(overrides).expect("a port and a temporary directory are free");
        Suite {
            name,
            stage: Arc::new(Mutex::new(stage)),
            trials: Vec::new(),
        }
    }

    /// Adds a case that needs the named clients.
    fn case(
        &mut self,
        name: &str,
        needs: &[Kind],
        run: impl FnOnce(&mut Stage) -> Result<()> + Send + 'static,
    ) {
        let stage = Arc::clone(&self.stage);
        let missing = needs.iter().find_map(|kind| kind.missing());
        let name = format!("{}::{name}", self.name);
        self.trials.push(Trial::ignorable_test(name, move || {
            if let Some(reason) = missing {
                return Ok(Completion::ignored_with(reason));
            }
            // a case that panicked leaves a stage that the next one can use
            let mut stage = stage.lock().unwrap_or_else(PoisonError::into_inner);
            match stage.start().and_then(|()| run(&mut stage)) {
                Ok(()) => Ok(Completion::Completed),
                Err(error) => {
                    let tail = stage.after_failure();
                    Err(Failed::from(format!("{error:#}\n{tail}")))
                }
            }
        }));
    }

    /// Adds a case for each of the clients.
    fn each(&mut self, name: &str, kinds: &[Kind], run: fn(&mut Stage, Kind) -> Result<()>) {
        for kind in kinds.iter().copied() {
            let name = format!("{name}::{}", kind.name());
            self.case(&name, &[kind], move |stage| run(stage, kind));
        }
    }
}

/// Two cores, each shown as a node to the clients that can use it: everything.
fn two_lanes() -> Suite {
    let mut suite = Suite::new("two_lanes", &[("corelane.cores", "2")]);
    let not_kcat: Vec<Kind> = KINDS.into_iter().filter(|k| *k != Kind::Kcat).collect();
    suite.each(
        "every_codec_is_read_by_all",
        &KINDS,
        cases::every_codec_is_read_by_all,
    );
    suite.each(
        "every_kind_of_ack_delivers",
        &KINDS,
        cases::every_kind_of_ack_delivers,
    );
    suite.each(
        "partitions_keep_apart",
        &KINDS,
        cases::partitions_keep_apart,
    );
    suite.each(
        "reading_begins_anywhere",
        &KINDS,
        cases::reading_begins_anywhere,
    );
    suite.each(
        "offsets_are_found_by_time",
        &KINDS,
        cases::offsets_are_found_by_time,
    );
    suite.each(
        "a_waiting_fetch_is_woken",
        &not_kcat,
        cases::a_waiting_fetch_is_woken,
    );
    suite.each(
        "append_time_replaces_the_producers",
        &[Kind::Librdkafka, Kind::Java],
        cases::append_time_replaces_the_producers,
    );
    suite.each(
        "a_missing_topic_is_created_by_its_first_producer",
        &KINDS,
        cases::a_missing_topic_is_created_by_its_first_producer,
    );
    suite.case(
        "a_batch_above_the_limit_is_refused",
        &[],
        cases::a_batch_above_the_limit_is_refused,
    );
    suite.case("all_topics_are_listed", &[], machine::all_topics_are_listed);
    suite.case(
        "lanes_are_shown_to_clients_that_can_use_them",
        &[],
        |stage| {
            machine::lanes_are_shown_to_clients_that_can_use_them(
                stage,
                View {
                    capable: 2,
                    other: 1,
                },
            )
        },
    );
    let java = [Kind::Java];
    suite.case(
        "kafka_topics_manages_topics",
        &java,
        machine::kafka_topics_manages_topics,
    );
    suite.case(
        "kafka_get_offsets_agrees",
        &java,
        machine::kafka_get_offsets_agrees,
    );
    suite.case(
        "kafka_console_tools_round_trip",
        &java,
        machine::kafka_console_tools_round_trip,
    );
    suite.case(
        "tools_of_apis_that_are_not_served_say_so",
        &java,
        machine::tools_of_apis_that_are_not_served_say_so,
    );
    suite.case(
        "kafka_producer_perf_test_runs",
        &java,
        machine::kafka_producer_perf_test_runs,
    );
    suite.case(
        "kafka_broker_api_versions_reads_the_list",
        &java,
        machine::kafka_broker_api_versions_reads_the_list,
    );
    suite.case(
        "a_clean_stop_leaves_what_kafka_reads",
        &java,
        machine::a_clean_stop_leaves_what_kafka_reads,
    );
    suite
}

/// The cases that show a difference of configuration, with the clients that are quick.
fn variant(name: &'static str, overrides: &[(&str, &str)], view: View) -> Suite {
    let mut suite = Suite::new(name, overrides);
    let writers = [Kind::Librdkafka, Kind::Kcat, Kind::Java];
    suite.each(
        "every_codec_is_read_by_all",
        &writers[..1],
        cases::every_codec_is_read_by_all,
    );
    suite.each(
        "partitions_keep_apart",
        &writers,
        cases::partitions_keep_apart,
    );
    suite.each(
        "offsets_are_found_by_time",
        &writers[..1],
        cases::offsets_are_found_by_time,
    );
    suite.each(
        "a_waiting_fetch_is_woken",
        &writers[..1],
        cases::a_waiting_fetch_is_woken,
    );
    suite.case(
        "lanes_are_shown_to_clients_that_can_use_them",
        &[],
        move |stage| machine::lanes_are_shown_to_clients_that_can_use_them(stage, view),
    );
    suite.case(
        "a_clean_stop_leaves_what_kafka_reads",
        &[],
        machine::a_clean_stop_leaves_what_kafka_reads,
    );
    suite
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // the cases of a suite share a broker, and some count its topics
    arguments.test_threads = Some(1);
    let mut suites = vec![two_lanes()];
    if !is_kafka() {
        let one = View {
            capable: 1,
            other: 1,
        };
        let (two, capable) = (
            View {
                capable: 2,
                other: 2,
            },
            View {
                capable: 2,
                other: 1,
            },
        );
        suites.push(variant("one_core", &[("corelane.cores", "1")], one));
        let off = [("corelane.cores", "2"), ("corelane.lanes", "off")];
        suites.push(variant("lanes_off", &off, one));
        let first = ports::free(2).expect("two ports in a row");
        let range = format!("{first}-{}", first + 1);
        let ports = [
            ("corelane.cores", "2"),
            ("corelane.lanes", "ports"),
            ("corelane.lanes.ports", range.as_str()),
        ];
        suites.push(variant("lanes_ports", &ports, two));
        let interval = [
            ("corelane.cores", "2"),
            ("corelane.flush.policy", "interval"),
        ];
        suites.push(variant("interval", &interval, capable));
    }
    let trials = suites.into_iter().flat_map(|suite| suite.trials).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
