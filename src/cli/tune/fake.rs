//! A directory that stands for a machine, and what a broker on it is asked to do.

use std::fs;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use crate::base::config::{BrokerConfig, Inputs, load};
use crate::cli::tune::system::System;

/// What a broker has with these overrides.
pub fn config(overrides: &[&str]) -> BrokerConfig {
    let inputs = Inputs {
        overrides: overrides.iter().map(|o| (*o).to_owned()).collect(),
        host_name: "h".into(),
        ..Inputs::default()
    };
    load(&inputs).unwrap().config
}

pub struct Fake(TempDir);

impl Fake {
    /// A machine of these files: path and text.
    pub fn new(files: &[(&str, &str)]) -> Fake {
        let fake = Fake(tempfile::tempdir().unwrap());
        for (path, text) in files {
            fake.put(path, text);
        }
        fake
    }

    pub fn put(&self, path: &str, text: &str) {
        let path = self.system().path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A link within the machine.
    pub fn link(&self, path: &str, to: &str) {
        let path = self.system().path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(self.system().path(to), path).unwrap();
    }

    pub fn system(&self) -> System {
        System::new(self.0.path(), "self")
    }
}
