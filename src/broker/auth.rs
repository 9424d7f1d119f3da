//! Who asks, and whether they may. The one place where every request is authorised.

use std::rc::Rc;

/// Who a connection belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// `User`, as Kafka names the kind.
    pub kind: Rc<str>,
    /// The name; `ANONYMOUS` without authentication.
    pub name: Rc<str>,
}

impl Principal {
    /// The principal of a connection that did not authenticate.
    pub fn anonymous() -> Principal {
        Principal {
            kind: "User".into(),
            name: "ANONYMOUS".into(),
        }
    }
}

/// What is to be done, in Kafka's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Operation {
    Read,
    Write,
    Create,
    Delete,
    Describe,
    Alter,
    ClusterAction,
    IdempotentWrite,
}

/// What it is to be done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    /// A topic by name.
    Topic(&'a str),
    /// The cluster itself.
    Cluster,
    /// A transactional id.
    TransactionalId(&'a str),
}

/// Decides. Asked once a request and resource, after decoding and before anything is done.
pub trait Authorizer {
    /// Whether `who` may.
    fn allows(&self, who: &Principal, operation: Operation, on: Resource<'_>) -> bool;
}

/// Kafka without `authorizer.class.name`: everybody may do everything.
pub struct AllowAll;

impl Authorizer for AllowAll {
    fn allows(&self, _: &Principal, _: Operation, _: Resource<'_>) -> bool {
        true
    }
}
