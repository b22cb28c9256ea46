//! The figures of a run as a table for people and as JSON for programs.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use karpenter_bench::Measured;
use serde_json::{Value, json};

pub(super) struct Row {
    pub(super) input: String,
    pub(super) pods: usize,
    pub(super) bound: Option<f64>,
    pub(super) ours: Measured,
    pub(super) peer: Option<Measured>,
}

impl Row {
    /// How many times faster ours is.
    fn ratio(&self) -> Option<f64> {
        Some(self.peer.as_ref()?.seconds / self.ours.seconds)
    }
}

pub(super) fn json(rows: &[Row]) -> Value {
    let row = |row: &Row| {
        json!({
            "input": row.input,
            "pods": row.pods,
            "ratio": row.ratio(),
            "bound_usd_per_hour": row.bound,
            "ours": row.ours,
            "peer": row.peer,
        })
    };
    rows.iter().map(row).collect()
}

/// Two lines an input: ours, and Karpenter's where there is one.
pub(super) fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header([
        "INPUT",
        "PODS",
        "SIDE",
        "SECONDS",
        "PODS/S",
        "NODES",
        "$/HOUR",
        "BOUND",
        "x BOUND",
        "PEAK MB",
        "UNPLACED",
        "TYPES/NODE",
        "FASTER",
    ]);
    for row in rows {
        let faster = row.ratio().map(|ratio| format!("{ratio:.0}x")).unwrap_or_default();
        table.add_row(cells(row, "ours", &row.ours, faster));
        if let Some(peer) = &row.peer {
            table.add_row(cells(row, "Karpenter", peer, String::new()));
        }
    }
    for column in (1..13).filter(|column| *column != 2) {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn cells(row: &Row, side: &str, of: &Measured, faster: String) -> [String; 13] {
    let first = side == "ours";
    let once = |text: String| if first { text } else { String::new() };
    #[expect(clippy::cast_precision_loss, reason = "a number of pods")]
    let pods_per_second = row.pods as f64 / of.seconds;
    [
        once(row.input.clone()),
        once(row.pods.to_string()),
        side.to_owned(),
        format!("{:.4}", of.seconds),
        format!("{pods_per_second:.0}"),
        of.nodes.to_string(),
        format!("{:.2}", of.usd_per_hour),
        once(row.bound.map(|bound| format!("{bound:.2}")).unwrap_or_default()),
        row.bound.map(|bound| format!("{:.3}", of.usd_per_hour / bound)).unwrap_or_default(),
        format!("{:.0}", of.peak_mb),
        of.unscheduled.to_string(),
        format!("{} ({})", of.types_median, of.types_min),
        faster,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(seconds: f64) -> Measured {
        Measured {
            seconds,
            setup_seconds: 0.0,
            nodes: 2,
            usd_per_hour: 3.0,
            peak_mb: 10.0,
            unscheduled: 0,
            types_min: 1,
            types_median: 2,
            timed_out: false,
        }
    }

    #[test]
    fn json_has_the_promised_fields_and_null_where_there_is_no_figure() {
        let with = |peer| Row { input: "x".to_owned(), pods: 4, bound: Some(2.5), ours: measured(0.5), peer };
        let both = json(&[with(Some(measured(50.0)))]);
        assert_eq!(both[0]["ratio"], 100.0);
        assert_eq!(both[0]["peer"]["usd_per_hour"], 3.0);
        let alone = json(&[with(None)]);
        assert_eq!((&alone[0]["ratio"], &alone[0]["peer"]), (&Value::Null, &Value::Null));
        assert_eq!(alone[0]["bound_usd_per_hour"], 2.5);
    }
}
