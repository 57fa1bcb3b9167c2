//! The figures of one run, printed and kept: `target/bench/latest.json`, name → value, unit, reference.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::{Figure, Shape};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench");
/// More than this lost, and a figure says nothing.
const MOST_LOSS: f64 = 0.001;

#[derive(Default)]
pub(crate) struct Report {
    results: Map<String, Value>,
}

impl Report {
    pub(crate) fn add(&mut self, name: &str, value: f64, unit: &str, reference: f64) {
        let result = json!({ "value": value, "unit": unit, "reference": reference });
        self.results.insert(name.to_owned(), result);
    }

    /// One window of each server, as raw as it is.
    pub(crate) fn round(&self, shape: Shape, figures: &[Figure; 3]) {
        let [floor, reference, node] = figures.map(|figure| {
            let reader = 100.0 * figure.reader;
            format!(
                "{:.3} us/packet (reader {reader:.0} % busy)",
                figure.microseconds
            )
        });
        println!(
            "{}: floor {floor}, reference {reference}, node {node}",
            shape.name
        );
    }

    /// The best windows.
    pub(crate) fn shape(
        &mut self,
        shape: Shape,
        floor: Figure,
        reference: Figure,
        node: Figure,
        allocations: Option<f64>,
    ) {
        println!(
            "\n{}: {} x {} receivers, {} bursts/s of {}",
            shape.name, shape.rooms, shape.receivers, shape.bursts_per_second, shape.burst
        );
        for (server, figure) in [("floor", floor), ("reference", reference), ("node", node)] {
            let valid = if figure.loss > MOST_LOSS {
                "NOT VALID: "
            } else {
                ""
            };
            println!(
                "  {server:<10} {:>6.3} us/packet {:>9.0}/s per core; at {:.0}/s {:>5.1} % busy, \
                 {valid}loss {:.3} %, {} opened",
                figure.microseconds,
                1e6 / figure.microseconds,
                figure.per_second,
                100.0 * figure.utilisation,
                100.0 * figure.loss,
                figure.verified,
            );
        }
        println!("  node: {:.2} packets a message", node.per_message);
        if let (Some(node), Some(reference)) = (node.latency, reference.latency) {
            for (server, (p50, p99)) in [("reference", reference), ("node", node)] {
                println!(
                    "  {server}: from publisher to receiver, by a reader that polls, p50 {p50} us, p99 {p99} us"
                );
            }
            let (p50, beside) = (node.0 as f64, reference.0 as f64);
            self.add(&format!("latency_{}_p50_us", shape.name), p50, "us", beside);
        }
        let ratio = |name: &str, other: Figure| {
            let ratio = other.microseconds / node.microseconds;
            println!("  node over {name}: {ratio:.2}");
            ratio
        };
        let (over_reference, over_floor) = (ratio("reference", reference), ratio("floor", floor));
        self.add(
            &format!("node_over_reference_{}", shape.name),
            over_reference,
            "ratio",
            1.0,
        );
        let paced = match shape.name {
            "burst1" => "paced",
            other => other,
        };
        self.add(
            &format!("node_over_floor_{paced}"),
            over_floor,
            "ratio",
            1.0,
        );
        let over_floor = reference.microseconds / floor.microseconds;
        println!("  reference costs {over_floor:.2} of the floor");
        self.add(
            &format!("reference_over_floor_{}", shape.name),
            over_floor,
            "ratio",
            1.1,
        );
        for (server, figure) in [("floor", floor), ("reference", reference), ("node", node)] {
            let name = format!("{server}_us_{}", shape.name);
            self.add(&name, figure.microseconds, "us", floor.microseconds);
        }
        self.add(
            &format!("loss_{}", shape.name),
            node.loss.max(reference.loss).max(floor.loss),
            "ratio",
            MOST_LOSS,
        );
        if let Some(allocations) = allocations {
            self.add("allocations_per_forward", allocations, "1", 0.0);
        }
    }

    /// Of windows one behind the other: how often the reference's cost is the node's, in the median.
    pub(crate) fn neighbours(&mut self, shape: Shape, median: f64) {
        println!("  node over reference, median of neighbours: {median:.2}");
        let name = format!("node_over_reference_{}_median", shape.name);
        self.add(&name, median, "ratio", 1.0);
    }

    /// Keeps what was measured; what was not is kept of the run before.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        println!("\n{:<38} {:>10} {:<6} reference", "figure", "value", "unit");
        for (name, result) in &self.results {
            let number = |field: &str| result[field].as_f64().unwrap_or(f64::NAN);
            println!(
                "{name:<38} {:>10.3} {:<6} {:.3}",
                number("value"),
                result["unit"].as_str().unwrap_or_default(),
                number("reference"),
            );
        }
        let file = Path::new(FOLDER).join("latest.json");
        std::fs::create_dir_all(FOLDER)?;
        let former = std::fs::read(&file).unwrap_or_default();
        let mut all: Map<String, Value> = serde_json::from_slice(&former).unwrap_or_default();
        all.extend(self.results);
        Ok(std::fs::write(file, format!("{:#}\n", Value::Object(all)))?)
    }
}
