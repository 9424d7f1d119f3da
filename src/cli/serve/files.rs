//! How the files that the process may open are shared out.
//!
//! A log that cannot open a file takes its directory offline, so clients must not be able to use up
//! what it needs: sockets and segments each have a part, and a part is left for what is opened for a
//! moment (indexes, snapshots, files that go).

use anyhow::bail;

use crate::base::config::BrokerConfig;

/// Standard streams, signals, locks, metadata.
const OF_PROCESS: u64 = 64;
/// A ring, its doorbells, listeners.
const OF_SHARD: u64 = 16;
/// A journal and what is written beside it.
const OF_DIRECTORY: u64 = 4;
/// With less to share out a broker would stumble at every step.
const SHARED_MIN: u64 = 192;
/// With fewer files a start warns.
pub const COMFORTABLE: u64 = 65_536;

/// With fewer files a broker does not start.
pub fn least(shards: u64, config: &BrokerConfig) -> u64 {
    let directories = config.log.dirs.len() as u64;
    OF_PROCESS + shards * (OF_SHARD + OF_DIRECTORY * directories) + SHARED_MIN
}

/// Bounds connections and open segments so that `limit` files are enough for `shards` shards.
///
/// # Errors
/// If they cannot be.
pub fn share_out(limit: u64, shards: u64, config: &mut BrokerConfig) -> anyhow::Result<()> {
    let least = least(shards, config);
    let fixed = least - SHARED_MIN;
    if limit < least {
        bail!(
            "only {limit} files may be open at once, and at least {least} are needed: raise the limit \
             with `ulimit -n`, LimitNOFILE= (systemd) or `--ulimit nofile=` (Docker)"
        );
    }
    let shared = limit - fixed;
    let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let connections = &mut config.network.max_connections;
    *connections = (*connections).min(count(shared / 2));
    let segments = &mut config.log.open_segments;
    *segments = (*segments).min(count(shared / 3 / shards));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::config::{Inputs, load};

    fn config() -> BrokerConfig {
        let inputs = Inputs {
            host_name: "h".into(),
            ..Inputs::default()
        };
        load(&inputs).unwrap().config
    }

    #[test]
    fn what_is_shared_out_fits_into_the_limit() {
        for shards in [1, 2, 64] {
            for limit in [300, 1024, 4096, 20_000, 1 << 20] {
                let mut config = config();
                if share_out(limit, shards, &mut config).is_err() {
                    assert!(limit < 64 + shards * 20 + 192, "{limit} for {shards}");
                    continue;
                }
                let connections = config.network.max_connections as u64;
                let segments = shards * config.log.open_segments as u64;
                assert!(
                    connections >= 96 && segments >= 1,
                    "{connections} {segments}"
                );
                assert!(connections + segments + 64 + shards * 20 < limit);
            }
        }
    }

    #[test]
    fn a_large_limit_leaves_what_was_configured() {
        let mut config = config();
        config.network.max_connections = 1000;
        let segments = config.log.open_segments;
        share_out(1 << 20, 2, &mut config).unwrap();
        assert_eq!(config.network.max_connections, 1000);
        assert_eq!(config.log.open_segments, segments);
    }
}
