//! A group or a scenario while samples of it come in.

use super::snapshot::{Block, BlockKind, Series};
use crate::metrics::{Sink, TagSet, checks};

#[derive(Debug)]
pub(super) struct Growing {
    pub(super) block: Block,
    /// By the store's series: which of the block's is the same metric.
    places: Vec<Option<usize>>,
}

impl Growing {
    pub(super) fn new(kind: BlockKind, name: &str) -> Self {
        let block = Block {
            kind,
            name: name.to_owned(),
            series: Vec::new(),
            checks: Vec::new(),
        };
        Self {
            block,
            places: Vec::new(),
        }
    }

    /// The sink of the metric that `whole`, the store's series of this index, is all of.
    pub(super) fn sink(&mut self, index: usize, whole: &Series) -> &mut Sink {
        if self.places.len() <= index {
            self.places.resize(index + 1, None);
        }
        let series = &mut self.block.series;
        let place = *self.places[index].get_or_insert_with(|| {
            series.push(Series {
                name: whole.name.clone(),
                metric: whole.metric.clone(),
                tags: TagSet::new(),
                contains: whole.contains,
                section: whole.section,
                sink: Sink::new(whole.kind()),
                thresholds: Vec::new(),
            });
            series.len() - 1
        });
        &mut self.block.series[place].sink
    }

    pub(super) fn count_check(&mut self, tags: &TagSet, passed: bool) {
        if let Some(check) = tags.get("check") {
            let group = tags.get("group").map_or("", String::as_str);
            let index = checks::position(&mut self.block.checks, group, check);
            self.block.checks[index].count(passed);
        }
    }
}
