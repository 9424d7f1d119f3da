//! The configuration: a `server.properties`, the environment, overrides.

use corelane::base::config::{Inputs, environment_name, load, parse_properties, properties};

use crate::hunt::{Target, magnitude, shape};
use crate::mutate::{Gen, mutate};

pub const TARGETS: &[Target] = &[Target {
    name: "server_properties",
    seeds,
    mutate,
    repair: None,
    run: read,
    max_bytes: 4 << 10,
    // every line may be wrong, and the message quotes it, names what is near, and says where
    memory: |n| (1 << 20) + 200 * n as u64,
}];

fn seeds(g: &mut Gen) -> Vec<Vec<u8>> {
    const VALUES: [&str; 12] = [
        "true",
        "false",
        "1",
        "0",
        "-1",
        "100",
        "PLAINTEXT://127.0.0.1:9092",
        "all",
        "0,2-5",
        "16MiB",
        "a,b,c",
        "compact",
    ];
    let all: Vec<&str> = properties().map(|p| p.name).collect();
    let mut seeds = vec![
        b"# a comment\n! another\nnode.id = 3\nlog.dirs : /a,\\\n   /b\nbroker.rack\\u0041 x\n"
            .to_vec(),
        b"listeners=A://:9092,B://[::1]:9093\nlistener.security.protocol.map=A:PLAINTEXT,B:SSL\n\
          advertised.listeners=A://host:9092\ncorelane.lanes=ports\ncorelane.lanes.ports=A:1-9\n\
          max.connections.per.ip.overrides=10.0.0.5:100,::1:7\nnum.partion=3\n"
            .to_vec(),
    ];
    for _ in 0..60 {
        let mut text = String::new();
        for _ in 0..1 + g.below(6) {
            text += &format!("{}={}\n", g.pick(&all), g.pick(&VALUES));
        }
        seeds.push(text.into_bytes());
    }
    seeds
}

fn read(bytes: &[u8]) -> u64 {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return 0;
    };
    let parsed = parse_properties(text);
    let file = Inputs {
        file: Some(("server.properties".to_owned(), text.to_owned())),
        host_name: "host".to_owned(),
        ..Inputs::default()
    };
    let mut found = outcome(&file);
    if let Ok(lines) = &parsed {
        // the same, said in the other two ways
        let said = Inputs {
            overrides: lines
                .iter()
                .map(|l| format!("{}={}", l.key, l.value))
                .collect(),
            ..Inputs::default()
        };
        found ^= outcome(&said).rotate_left(9);
        let environment = Inputs {
            environment: lines
                .iter()
                .map(|l| (environment_name(&l.key), l.value.clone()))
                .collect(),
            ..Inputs::default()
        };
        found ^= outcome(&environment).rotate_left(18);
    }
    found
}

fn outcome(inputs: &Inputs) -> u64 {
    match load(inputs) {
        Ok(loaded) => magnitude(loaded.warnings.len()),
        Err(errors) => {
            let text = errors.to_string();
            assert!(!text.is_empty(), "an error says what is wrong");
            shape(&errors.0.first())
        }
    }
}
