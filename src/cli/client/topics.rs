//! Making and deleting topics, by the broker that does.

use crate::cli::client::{ClientError, Cluster};
use crate::wire::messages::{
    CreateTopicsRequest, CreateTopicsResponse, DeleteTopicState, DeleteTopicsRequest,
    DeleteTopicsResponse,
};

impl Cluster {
    /// Makes topics; the answer tells of each.
    pub fn create_topics<'s>(
        &'s mut self,
        request: &CreateTopicsRequest<'_>,
    ) -> Result<CreateTopicsResponse<'s>, ClientError> {
        let connection = self.controller()?;
        let version = connection.version::<CreateTopicsRequest<'_>>(i16::MAX)?;
        connection.call(request, version)
    }

    /// Deletes topics by name; the answer tells of each.
    pub fn delete_topics(
        &mut self,
        names: &[&str],
        timeout_ms: i32,
    ) -> Result<DeleteTopicsResponse<'_>, ClientError> {
        let connection = self.controller()?;
        let version = connection.version::<DeleteTopicsRequest<'_>>(i16::MAX)?;
        let state = |name| DeleteTopicState {
            name: Some(name),
            ..Default::default()
        };
        // up to version 5 as plain names, from 6 on with room for an id
        let request = DeleteTopicsRequest {
            topics: names.iter().copied().map(state).collect(),
            topic_names: names.into(),
            timeout_ms,
        };
        connection.call(&request, version)
    }
}
