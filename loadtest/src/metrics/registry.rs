//! Names: metrics and sets of tags become numbers here, for all threads.
//!
//! It knows no values. It only grows, and is bounded: metrics are defined while scripts load, and
//! past [`MAX_TAG_SETS`] further sets of tags are stripped to what the summary needs.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use super::builtin::{self, Section};
use super::{Contains, Kind, MetricId, TagSetId};

/// Tags by name.
pub type TagSet = BTreeMap<String, String>;

/// So many sets of tags are told apart. More: a script that tags with an identity fills the memory.
/// Fewer: honest combinations of region, layer, path and role are lost.
const MAX_TAG_SETS: usize = 100_000;

/// What stays of a set that came too late; past as many again nothing stays.
const KEPT: [&str; 3] = ["check", "group", "scenario"];

/// A longer name is a mistake.
const MAX_NAME: usize = 128;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetricError {
    #[error(
        "'{0}' cannot be the name of a metric: expected letters, digits and '_', not beginning with a digit, 128 characters at most"
    )]
    Name(String),
    #[error(
        "metric '{name}' exists already as a {kind} of {contains} values: it cannot also be a {asked_kind} of {asked_contains} values"
    )]
    Exists {
        name: String,
        kind: Kind,
        contains: Contains,
        asked_kind: Kind,
        asked_contains: Contains,
    },
}

/// A metric, as it was defined.
#[derive(Debug, Clone)]
pub struct Metric {
    pub id: MetricId,
    pub name: Arc<str>,
    pub kind: Kind,
    pub contains: Contains,
    pub section: Section,
}

/// Names for all threads.
#[derive(Debug)]
pub struct Registry {
    /// A lock, because each VU thread meets new tags by itself and all have to call them the same.
    /// It is taken when a script is loaded and when a VU sees a set of tags for the first time; no
    /// sample waits for it.
    names: Mutex<Names>,
}

#[derive(Debug)]
struct Names {
    metrics: Vec<Metric>,
    by_name: BTreeMap<Arc<str>, MetricId>,
    tag_sets: Vec<Arc<TagSet>>,
    by_tags: BTreeMap<Arc<TagSet>, TagSetId>,
    overflowed: bool,
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl Registry {
    /// With the built-in metrics and the empty set of tags.
    #[must_use]
    pub fn new() -> Self {
        let mut names = Names {
            metrics: Vec::new(),
            by_name: BTreeMap::new(),
            tag_sets: Vec::new(),
            by_tags: BTreeMap::new(),
            overflowed: false,
        };
        for builtin in builtin::ALL {
            names.add_metric(
                builtin.name,
                builtin.kind,
                builtin.contains,
                builtin.section,
            );
        }
        names.add_tags(TagSet::new());
        Self {
            names: Mutex::new(names),
        }
    }

    /// The metric of this name; the same again if it was defined alike before.
    ///
    /// # Errors
    /// When the name is none, or belongs to a metric of another kind.
    pub fn define(
        &self,
        name: &str,
        kind: Kind,
        contains: Contains,
    ) -> Result<MetricId, MetricError> {
        if !is_valid_name(name) {
            return Err(MetricError::Name(name.to_owned()));
        }
        let mut names = self.lock();
        let Some(&id) = names.by_name.get(name) else {
            return Ok(names.add_metric(name, kind, contains, Section::Custom));
        };
        let there = &names.metrics[id.index()];
        if there.kind == kind && there.contains == contains {
            return Ok(id);
        }
        Err(MetricError::Exists {
            name: name.to_owned(),
            kind: there.kind,
            contains: there.contains,
            asked_kind: kind,
            asked_contains: contains,
        })
    }

    #[must_use]
    pub fn metric(&self, name: &str) -> Option<MetricId> {
        self.lock().by_name.get(name).copied()
    }

    /// A built-in metric.
    ///
    /// # Panics
    /// When there is none of this name: it is written in our own code.
    #[must_use]
    pub fn builtin(&self, name: &'static str) -> MetricId {
        self.metric(name)
            .expect("only names of the list of built-in metrics are asked for")
    }

    /// What a metric is.
    #[must_use]
    pub fn describe(&self, id: MetricId) -> Metric {
        self.lock().metrics[id.index()].clone()
    }

    /// The number of this set of tags.
    #[must_use]
    pub fn tag_set(&self, tags: &TagSet) -> TagSetId {
        let mut names = self.lock();
        if let Some(&id) = names.by_tags.get(tags) {
            return id;
        }
        if names.tag_sets.len() < MAX_TAG_SETS {
            return names.add_tags(tags.clone());
        }
        names.overflowed = true;
        let kept: TagSet = tags
            .iter()
            .filter(|(name, _)| KEPT.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if let Some(&id) = names.by_tags.get(&kept) {
            return id;
        }
        if names.tag_sets.len() < 2 * MAX_TAG_SETS {
            return names.add_tags(kept);
        }
        TagSetId::EMPTY
    }

    #[must_use]
    pub fn tags(&self, id: TagSetId) -> Arc<TagSet> {
        Arc::clone(&self.lock().tag_sets[id.index()])
    }

    /// Whether there were more sets of tags than are told apart: worth a warning.
    #[must_use]
    pub fn overflowed(&self) -> bool {
        self.lock().overflowed
    }

    fn lock(&self) -> MutexGuard<'_, Names> {
        self.names
            .lock()
            .expect("nothing that happens under the lock panics")
    }
}

impl Names {
    fn add_metric(
        &mut self,
        name: &str,
        kind: Kind,
        contains: Contains,
        section: Section,
    ) -> MetricId {
        let id = MetricId(u32::try_from(self.metrics.len()).expect("scripts define few metrics"));
        let name: Arc<str> = name.into();
        self.by_name.insert(Arc::clone(&name), id);
        self.metrics.push(Metric {
            id,
            name,
            kind,
            contains,
            section,
        });
        id
    }

    fn add_tags(&mut self, tags: TagSet) -> TagSetId {
        let id =
            TagSetId(u32::try_from(self.tag_sets.len()).expect("the sets of tags are bounded"));
        let tags = Arc::new(tags);
        self.tag_sets.push(Arc::clone(&tags));
        self.by_tags.insert(tags, id);
        id
    }
}

pub(super) fn is_valid_name(name: &str) -> bool {
    let mut characters = name.chars();
    characters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && characters.all(|character| character.is_ascii_alphanumeric() || character == '_')
        && name.len() <= MAX_NAME
}
