//! The tags that what a virtual user measures bears: of its scenario, its group, its own.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use crate::metrics::{Registry, TagSetId};

#[derive(Default)]
pub(super) struct Tags {
    /// Of the run and the scenario.
    given: RefCell<BTreeMap<String, String>>,
    /// Set by the script.
    own: RefCell<BTreeMap<String, String>>,
    /// `::a::b`, or empty.
    group: RefCell<String>,
    /// Of all of them together, until one changes.
    known: Cell<Option<TagSetId>>,
}

impl Tags {
    /// Another iteration, perhaps of another scenario. What the script has set stays, as its variables do.
    pub(super) fn begin(&self, given: &BTreeMap<String, String>) {
        self.given.borrow_mut().clone_from(given);
        self.group.borrow_mut().clear();
        self.known.set(None);
    }

    pub(super) fn of(&self, name: &str) -> Option<String> {
        let own = self.own.borrow();
        own.get(name)
            .cloned()
            .or_else(|| self.given.borrow().get(name).cloned())
    }

    pub(super) fn set(&self, name: String, value: Option<String>) {
        let mut own = self.own.borrow_mut();
        match value {
            Some(value) => own.insert(name, value),
            None => own.remove(&name),
        };
        self.known.set(None);
    }

    /// Answers where to go back to.
    pub(super) fn enter(&self, name: &str) -> String {
        let outside = self.group.borrow().clone();
        self.group.replace(format!("{outside}::{name}"));
        self.known.set(None);
        outside
    }

    pub(super) fn leave(&self, to: String) {
        self.group.replace(to);
        self.known.set(None);
    }

    pub(super) fn all(&self) -> BTreeMap<String, String> {
        let mut all = self.given.borrow().clone();
        all.insert("group".into(), self.group.borrow().clone());
        all.extend(self.own.borrow().clone());
        all
    }

    /// With `more` on top.
    pub(super) fn id(
        &self,
        registry: &Registry,
        more: Option<&BTreeMap<String, String>>,
    ) -> TagSetId {
        if let Some(more) = more {
            let mut all = self.all();
            all.extend(more.clone());
            return registry.tag_set(&all);
        }
        if let Some(known) = self.known.get() {
            return known;
        }
        let id = registry.tag_set(&self.all());
        self.known.set(Some(id));
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_nest_and_what_is_nearer_wins() {
        let (registry, tags) = (Registry::new(), Tags::default());
        let given = BTreeMap::from([("role".to_owned(), "viewer".to_owned())]);
        tags.begin(&given);
        let outside = tags.enter("watch");
        let middle = tags.enter("switch");
        tags.set("role".into(), Some("speaker".into()));
        let more = BTreeMap::from([("kind".to_owned(), "video".to_owned())]);
        let id = tags.id(&registry, Some(&more));
        let seen = registry.tags(id);
        let seen: Vec<(&str, &str)> = seen.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let expected = [
            ("group", "::watch::switch"),
            ("kind", "video"),
            ("role", "speaker"),
        ];
        assert_eq!(seen, expected);
        tags.leave(middle);
        tags.set("role".into(), None);
        assert_eq!(tags.all()["group"], "::watch");
        tags.leave(outside);
        assert_eq!(tags.all()["group"], "");
        assert_eq!(tags.of("role").as_deref(), Some("viewer"));
        let (one, two) = (tags.id(&registry, None), tags.id(&registry, None));
        assert_eq!(one, two);
    }
}
