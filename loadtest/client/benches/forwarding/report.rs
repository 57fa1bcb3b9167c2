//! The figures of one run, printed and kept: `target/bench/latest.json`, name → value, unit, reference.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::{Figure, Shape};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/bench");
/// More than this lost, and a figure says nothing.
pub(crate) const MOST_LOSS: f64 = 0.001;
/// … and so it does if whoever publishes comes up with less than this part of the load.
const LEAST_LOAD: f64 = 0.98;

#[derive(Default)]
pub(crate) struct Report {
    results: Map<String, Value>,
}

/// How often a server's cost is another's, of each round.
#[derive(Default)]
pub(crate) struct Ratios {
    node_over_reference: Vec<f64>,
    node_over_floor: Vec<f64>,
    reference_over_floor: Vec<f64>,
}

impl Ratios {
    pub(crate) fn add(&mut self, round: &[Figure; 3]) {
        let [floor, reference, node] = round.map(|figure| figure.microseconds);
        self.node_over_reference.push(reference / node);
        self.node_over_floor.push(floor / node);
        self.reference_over_floor.push(reference / floor);
    }
}

/// The median, between what a quarter is below and what a quarter is above.
pub(crate) fn quartiles(values: &mut [f64]) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| {
        let place = values.len().saturating_sub(1) * quarter / 4;
        values.get(place).copied().unwrap_or(f64::NAN)
    })
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

    /// The best windows, and the ratios of all.
    pub(crate) fn shape(
        &mut self,
        shape: Shape,
        [floor, reference, node]: [Figure; 3],
        ratios: &mut Ratios,
        allocations: Option<f64>,
    ) {
        println!(
            "\n{}: {} x {} receivers, {} bursts/s of {}",
            shape.name, shape.rooms, shape.receivers, shape.bursts_per_second, shape.burst
        );
        for (server, figure) in [("floor", floor), ("reference", reference), ("node", node)] {
            let load = figure.per_second / shape.packets_per_second();
            let valid = if figure.loss > MOST_LOSS || load < LEAST_LOAD {
                "NOT VALID: "
            } else {
                ""
            };
            println!(
                "  {server:<10} {:>6.3} us/packet {:>9.0}/s per core; at {:.0}/s {:>5.1} % busy, \
                 {valid}{:.1} % of the load, loss {:.3} %, {} opened",
                figure.microseconds,
                1e6 / figure.microseconds,
                figure.per_second,
                100.0 * figure.utilisation,
                100.0 * load,
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
        let best = reference.microseconds / node.microseconds;
        let over_reference = quartiles(&mut ratios.node_over_reference);
        let over_floor = quartiles(&mut ratios.node_over_floor);
        let reference_over_floor = quartiles(&mut ratios.reference_over_floor);
        println!("  of windows that follow each other, the median (and the quarters around it):");
        for (name, [low, median, high]) in [
            ("node over reference", over_reference),
            ("node over floor", over_floor),
            ("reference costs of the floor", reference_over_floor),
        ] {
            println!("    {name:<29} {median:.3} ({low:.3} to {high:.3})");
        }
        println!("  node over reference, of the best windows: {best:.3}");
        let [_, over_reference, _] = over_reference;
        self.add(
            &format!("node_over_reference_{}", shape.name),
            over_reference,
            "ratio",
            1.0,
        );
        self.add(
            &format!("node_over_reference_{}_best", shape.name),
            best,
            "ratio",
            1.0,
        );
        let paced = match shape.name {
            "burst1" => "paced",
            other => other,
        };
        let [_, over_floor, _] = over_floor;
        self.add(
            &format!("node_over_floor_{paced}"),
            over_floor,
            "ratio",
            1.0,
        );
        let [_, reference_over_floor, _] = reference_over_floor;
        self.add(
            &format!("reference_over_floor_{}", shape.name),
            reference_over_floor,
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
