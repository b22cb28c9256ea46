//! Metrics of the catalogue: one series per instance type and per offering of a class's zones, no more.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use karpenter_aws::{Aws, Market as Told};
use prometheus::{GaugeVec, Opts, Registry};

use super::metrics::register;

/// There are tens of thousands of series: a catalogue that changes all the time is told this often.
const EVERY: Duration = Duration::from_secs(10);
const OFFERING: [&str; 3] = ["instance_type", "capacity_type", "zone"];

pub(super) struct Market {
    cpu: GaugeVec,
    memory: GaugeVec,
    price: GaugeVec,
    available: GaugeVec,
    types: BTreeSet<String>,
    offerings: BTreeSet<[String; 3]>,
    told: Option<Instant>,
    /// Of the catalogue that was told.
    version: u64,
}

impl Market {
    pub(super) fn register(registry: &Registry) -> anyhow::Result<Self> {
        let gauge = |name: &str, help: &str, labels: &[&str]| -> anyhow::Result<GaugeVec> {
            let name = format!("karpenter_cloudprovider_instance_type_{name}");
            register(registry, GaugeVec::new(Opts::new(name, help), labels)?)
        };
        Ok(Self {
            cpu: gauge("cpu_cores", "vCPUs of an instance type.", &OFFERING[..1])?,
            memory: gauge("memory_bytes", "Memory of an instance type.", &OFFERING[..1])?,
            price: gauge("offering_price_estimate", "Dollars per hour of an offering.", &OFFERING)?,
            available: gauge("offering_available", "Whether an offering can be had.", &OFFERING)?,
            types: BTreeSet::new(),
            offerings: BTreeSet::new(),
            told: None,
            version: 0,
        })
    }

    /// Tells a catalogue that changed, but not all the time.
    pub(super) fn tell(&mut self, aws: &Aws) {
        let version = aws.catalogue_version();
        if self.version != version && self.told.is_none_or(|at| at.elapsed() >= EVERY) {
            self.version = version;
            self.told = Some(Instant::now());
            self.set(aws.market());
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
    fn set(&mut self, told: Told) {
        for gone in self.types.iter().filter(|name| !told.types.contains_key(*name)) {
            let _ = self.cpu.remove_label_values(&[gone.as_str()]);
            let _ = self.memory.remove_label_values(&[gone.as_str()]);
        }
        for (name, (cores, bytes)) in &told.types {
            self.cpu.with_label_values(&[name]).set(*cores as f64);
            self.memory.with_label_values(&[name]).set(*bytes as f64);
        }
        self.types = told.types.into_keys().collect();
        let mut offerings = BTreeSet::new();
        for ((name, capacity_type, zone), sale) in told.offerings {
            let labels = [name, capacity_type.as_str().to_owned(), zone];
            let values = labels.each_ref().map(String::as_str);
            self.price.with_label_values(&values).set(sale.usd);
            self.available.with_label_values(&values).set(f64::from(u8::from(sale.available)));
            offerings.insert(labels);
        }
        for gone in self.offerings.difference(&offerings) {
            let values = gone.each_ref().map(String::as_str);
            let _ = self.price.remove_label_values(&values);
            let _ = self.available.remove_label_values(&values);
        }
        self.offerings = offerings;
    }
}
