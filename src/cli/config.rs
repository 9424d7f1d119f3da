//! `corelane config`.

use serde_json::json;

use crate::base::config::{Change, Property, Scope, Status, properties};
use crate::cli::args::ConfigAction;
use crate::cli::output::Output;

pub fn run(action: ConfigAction, output: &Output) -> anyhow::Result<()> {
    let ConfigAction::List { filter, topic } = action;
    let filter = filter.unwrap_or_default();
    let wanted = |p: &&Property| {
        let in_scope = !topic || p.topic_name().is_some();
        in_scope
            && (p.name.contains(&filter) || p.topic_name().is_some_and(|n| n.contains(&filter)))
    };
    let mut any = false;
    for property in properties().filter(wanted) {
        let name = match topic {
            true => property.topic_name().unwrap_or(property.name),
            false => property.name,
        };
        any = true;
        if output.json {
            output.object(&object(property, name))?;
            continue;
        }
        let default = property.default.unwrap_or("none");
        output.line(&format!(
            "{}\n    {}\n    {}; default {default}; {}{}",
            output.strong(name),
            property.doc,
            property.kind.describe(),
            change(property.change),
            status(property.status),
        ))?;
    }
    match any {
        true => Ok(()),
        false => anyhow::bail!("no property holds {filter:?}; `corelane config list` shows all"),
    }
}

fn change(change: Change) -> &'static str {
    match change {
        Change::Restart => "at the next start",
        Change::PerBroker | Change::ClusterWide => "at run time",
    }
}

fn status(status: Status) -> String {
    match status {
        Status::Served => String::new(),
        Status::Later => "; checked, not served yet".into(),
        Status::Void(reason) => format!("; no effect: {reason}"),
    }
}

fn object(property: &Property, name: &str) -> serde_json::Value {
    json!({
        "name": name,
        "values": property.kind.describe(),
        "default": property.default,
        "scope": match property.scope {
            Scope::Broker => "broker",
            Scope::TopicDefault(_) => "broker and topic",
            Scope::Topic => "topic",
        },
        "topic_name": property.topic_name(),
        "change": change(property.change),
        "status": match property.status {
            Status::Served => "served",
            Status::Later => "not served yet",
            Status::Void(_) => "no effect",
        },
        "doc": property.doc,
    })
}
