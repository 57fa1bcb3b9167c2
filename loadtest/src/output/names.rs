//! What an output has learnt of the registry, so that it asks once and not for each sample.

use std::sync::Arc;

use crate::metrics::{Metric, Registry, Sample, TagSet};

#[derive(Debug)]
pub(super) struct Names {
    registry: Arc<Registry>,
    /// By number.
    metrics: Vec<Option<Metric>>,
    tags: Vec<Option<Arc<TagSet>>>,
}

impl Names {
    pub(super) fn new(registry: Arc<Registry>) -> Self {
        Self {
            registry,
            metrics: Vec::new(),
            tags: Vec::new(),
        }
    }

    /// The metric and the tags of a sample, and whether the metric is seen for the first time.
    pub(super) fn of(&mut self, sample: &Sample) -> (&Metric, &TagSet, bool) {
        let registry = &self.registry;
        let metric = slot(&mut self.metrics, sample.metric.index());
        let is_new = metric.is_none();
        let metric = metric.get_or_insert_with(|| registry.describe(sample.metric));
        let tags = slot(&mut self.tags, sample.tags.index());
        let tags = tags.get_or_insert_with(|| registry.tags(sample.tags));
        (metric, tags, is_new)
    }
}

fn slot<T>(list: &mut Vec<Option<T>>, index: usize) -> &mut Option<T> {
    if list.len() <= index {
        list.resize_with(index + 1, || None);
    }
    &mut list[index]
}
