//! Queries of one request sorted by the shard that owns what they ask about.

use crate::base::ids::ShardId;
use crate::broker::shard::Shard;

/// Each shard's queries, with their places in the request.
pub struct Scatter<Q>(Vec<(ShardId, Vec<usize>, Vec<Q>)>);

impl<Q> Scatter<Q> {
    /// None yet.
    pub fn new() -> Scatter<Q> {
        Scatter(Vec::new())
    }

    /// Adds the query that stands at `place`.
    pub fn add(&mut self, owner: ShardId, place: usize, query: Q) {
        match self.0.iter_mut().find(|(to, _, _)| *to == owner) {
            Some((_, places, queries)) => {
                places.push(place);
                queries.push(query);
            }
            None => self.0.push((owner, vec![place], vec![query])),
        }
    }

    /// One call a shard: whom to ask, the places and the queries. Counts the request as forwarded
    /// if another shard is among them.
    pub fn calls(self, shard: &Shard) -> impl Iterator<Item = (ShardId, Vec<usize>, Vec<Q>)> {
        if self.0.iter().any(|(to, _, _)| *to != shard.id) {
            shard.counters.forwarded_requests.add(1);
        }
        self.0.into_iter()
    }
}
