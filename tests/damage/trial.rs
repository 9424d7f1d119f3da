//! One flip, and what must be true of it.

use std::fmt;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::data::{Model, Name, Template, journal_end, log};
use crate::serving::{MORE, Seen, append, read_all};
use crate::support::broker::Broker;
use corelane::ring::sim::Rng;

/// Bits of one byte of a file that are turned.
pub struct Flip {
    /// Relative to the data.
    pub file: PathBuf,
    pub at: u64,
    pub mask: u8,
}

impl fmt::Display for Flip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        write!(f, "byte {} of {file} ^ {:02x}", self.at, self.mask)
    }
}

impl Flip {
    /// Somewhere in what was written of a file; `None` where nothing was.
    pub fn draw(template: &Template, file: &Path, random: &mut Rng) -> Result<Option<Flip>> {
        template.restore()?;
        let path = template.setup.data().join(file);
        let mut len = fs::metadata(&path)?.len();
        if path.extension().is_some_and(|e| e == "journal") {
            len = journal_end(&path)? + 96;
        }
        if len == 0 {
            return Ok(None);
        }
        Ok(Some(Flip {
            file: file.to_owned(),
            at: random.below(len),
            mask: 1 << random.below(8),
        }))
    }

    fn apply(&self, data: &Path) -> Result<()> {
        let path = data.join(&self.file);
        let file = fs::File::options().read(true).write(true).open(&path)?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, self.at)?;
        file.write_all_at(&[byte[0] ^ self.mask], self.at)?;
        Ok(())
    }
}

/// See the module.
pub struct Trial<'t> {
    template: &'t Template,
    flip: &'t Flip,
}

impl<'t> Trial<'t> {
    pub fn new(template: &'t Template, flip: &'t Flip) -> Trial<'t> {
        Trial { template, flip }
    }

    pub fn run(&self) -> Result<()> {
        let template = self.template;
        template.restore()?;
        self.flip.apply(&template.setup.data())?;
        let found = self.verify()?;
        let mut model = template.model.clone();
        let named = self.serve(found.is_some(), &mut model)?;
        ensure!(
            named.is_none() || found.is_some(),
            "the broker says what verify does not: {}",
            named.unwrap_or_default()
        );
        if found.is_none() {
            return Ok(());
        }
        // a broker that ran meanwhile has changed much: repair what it left, and what it found
        self.repair(&model).context("repaired after a start")?;
        template.restore()?;
        self.flip.apply(&template.setup.data())?;
        self.repair(&template.model)
            .context("repaired before a start")
    }

    /// What verify says of the flipped file.
    fn verify(&self) -> Result<Option<String>> {
        let output = log(&["verify", "--json"], &self.template.dirs())?;
        let text = output.text();
        match output.status.code() {
            Some(0) => Ok(None),
            Some(1) => {
                let name = self.flip.file.display().to_string();
                let line = text
                    .lines()
                    .find(|line| line.contains(&name) && line.contains("\"damage\""));
                let line = line.with_context(|| format!("verify names another file: {text}"))?;
                Ok(Some(line.to_owned()))
            }
            _ => bail!("verify: {text}{}", output.stderr),
        }
    }

    /// Starts the broker on the damage. `Some`: it did matter.
    fn serve(&self, found: bool, model: &mut Model) -> Result<Option<String>> {
        let template = self.template;
        let _ = fs::remove_file(template.setup.log());
        let mut broker = template.setup.spawn()?;
        let started = broker.wait_until_it_answers();
        let said = fs::read_to_string(template.setup.log())?;
        ensure!(!said.contains("panicked"), "{said}");
        let name = self.flip.file.file_name().unwrap_or_default();
        let name = name
            .to_string_lossy()
            .replace(".properties.corelane", ".properties");
        if started.is_err() {
            ensure!(!broker.runs(), "it neither serves nor ends: {said}");
            ensure!(self.keeps_all(), "nothing is served: {said}");
            let told = said.lines().last().unwrap_or_default();
            ensure!(told.contains(&name), "it does not name {name}: {said}");
            return Ok(Some(told.to_owned()));
        }
        let seen = read_all(&broker.address(), &template.model)?;
        append(&broker.address(), &seen, &template.model)?;
        for (partition, _) in seen.iter().filter(|(_, seen)| **seen == Seen::Whole) {
            let values = model.get_mut(partition).context("a partition")?;
            values.push(MORE.into());
        }
        self.stop(broker)?;
        let said = fs::read_to_string(template.setup.log())?;
        ensure!(!said.contains("panicked"), "{said}");
        let mut mattered = None;
        for (partition, seen) in &seen {
            match seen {
                Seen::Whole => continue,
                Seen::Refused { .. } => {}
                other => bail!("{partition:?} is {other:?}, and nobody was told: {said}"),
            }
            ensure!(
                self.touches(*partition),
                "{partition:?} is {seen:?}: {said}"
            );
            let told = said.lines().find(|line| line.contains(&name));
            let told = told.with_context(|| format!("{name} is not named: {said}"))?;
            mattered = Some(told.to_owned());
        }
        ensure!(found || mattered.is_none(), "verify did not find it");
        Ok(mattered)
    }

    /// Metadata and ids: without them no broker starts, or only on other directories.
    fn keeps_all(&self) -> bool {
        let name = self.flip.file.file_name().unwrap_or_default();
        let name = name.to_string_lossy();
        name.starts_with("corelane.metadata") || name.starts_with("meta.properties")
    }

    /// Whether the flip may cost that partition anything.
    fn touches(&self, partition: Name) -> bool {
        let mut parts = self.flip.file.components().map(|c| c.as_os_str());
        let home = parts.next().unwrap_or_default();
        let dir = format!("{}-{}", partition.0, partition.1);
        match (parts.next(), parts.next()) {
            (Some(of), Some(_)) => of == dir.as_str(),
            _ => home == self.template.home(partition),
        }
    }

    fn stop(&self, broker: Broker) -> Result<()> {
        let (status, said) = broker.terminate()?;
        ensure!(matches!(status.code(), Some(0 | 1)), "{said}");
        Ok(())
    }

    /// Repairs, and looks at what is left.
    fn repair(&self, model: &Model) -> Result<()> {
        let template = self.template;
        let dirs = template.dirs();
        let shown = log(&["repair"], &dirs)?;
        let twice = log(&["repair"], &dirs)?;
        ensure!(shown.text() == twice.text(), "showing changes something");
        let done = log(&["repair", "--apply"], &dirs)?;
        let said = format!("{}{}", done.text(), done.stderr);
        ensure!(done.status.success(), "repair: {said}");
        ensure!(
            done.text() == shown.text(),
            "it does another thing: {said}, {}",
            shown.text()
        );
        let after = log(&["verify"], &dirs)?;
        ensure!(
            after.status.success(),
            "verify finds after {said}: {}",
            after.text()
        );
        let _ = fs::remove_file(template.setup.log());
        let broker = template.setup.start()?;
        let seen = read_all(&broker.address(), model)?;
        append(&broker.address(), &seen, model)?;
        let log_text = fs::read_to_string(template.setup.log())?;
        broker.stop().context("a clean stop")?;
        for (partition, seen) in &seen {
            match seen {
                Seen::Whole => {}
                Seen::Shorter { end } => {
                    ensure!(self.touches(*partition), "{partition:?}: {seen:?}: {said}");
                    let lost = "gives up offset";
                    let told = said.lines().any(|line| {
                        line.contains(&format!("{}-{}", partition.0, partition.1))
                            && line.contains(lost)
                            && line.contains(&format!(" {end}"))
                    });
                    ensure!(
                        told,
                        "{partition:?} ends at {end}, which is not said: {said}"
                    );
                }
                other => bail!("{partition:?} is {other:?} after {said}: {log_text}"),
            }
        }
        let after = log(&["verify"], &dirs)?;
        ensure!(
            after.status.success(),
            "verify after a stop: {}",
            after.text()
        );
        Ok(())
    }
}
